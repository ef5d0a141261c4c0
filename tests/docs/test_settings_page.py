"""docs/settings.md lists every setting that the code reads, and no other."""

import re
from pathlib import Path

import pytest

from pipelines.cluster.doctor.secret_settings import SECRETS
from tests.docs.documents import DOCUMENTS, ROOT, name_of

SETTING = re.compile(r"FINELINE_[A-Z_]+[A-Z]")
PAGE = (ROOT / "docs" / "settings.md").read_text()
# Of the tests alone.
TESTS_ONLY = {"FINELINE_TEST_ARGO_SERVER", "FINELINE_TEST_VLLM"}


def section(heading: str) -> str:
    return PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def in_code() -> set[str]:
    files = [
        file
        for folder in ("api", "pipelines", "steps", "presets", "recipes", "argo")
        for suffix in ("py", "yaml")
        for file in (ROOT / folder).rglob(f"*.{suffix}")
    ]
    return {name for file in files for name in SETTING.findall(file.read_text())}


def test_the_page_lists_each_setting_of_the_code_and_no_other() -> None:
    assert set(SETTING.findall(PAGE)) == in_code()


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_a_setting_that_a_document_names_is_one(file: Path) -> None:
    assert set(SETTING.findall(file.read_text())) <= in_code() | TESTS_ONLY


def test_a_component_sets_what_the_page_says_that_it_sets() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]+) \|.*\|$", section("Of a namespace"), re.MULTILINE)
    said = {(setting, name) for setting, by in rows for name in re.findall(r"`([a-z-]+)`", by)}
    assert len(said) >= 7
    components = ROOT / "argo" / "components"
    for setting, name in said:
        assert f"/data/{setting}," in (components / name / "kustomization.yaml").read_text(), (setting, name)
    base = (ROOT / "argo" / "base" / "settings.yaml").read_text()
    for setting, by in rows:
        assert (by.strip() == "base") == (f"  {setting}: " in base), setting


def test_the_page_lists_every_secret() -> None:
    assert set(re.findall(r"`(fineline-[a-z-]+)`", section("From Secrets"))) == {
        f"fineline-{known.suffix}" for known in SECRETS
    }
