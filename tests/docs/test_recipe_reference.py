"""docs/recipe.md lists every key of the recipe with its type, default, limits, and description."""

import re
from pathlib import Path

import pytest

from pipelines.command import main
from pipelines.shown import recipe_reference
from recipes.evaluation import Gate
from recipes.recipe import Recipe
from recipes.tuning import Tune

ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \| (.*) \|$", re.MULTILINE)


def section(name: str) -> dict[str, tuple[str, ...]]:
    text = recipe_reference.reference().partition(f"## {name}\n")[2].partition("\n## ")[0]
    return {key: cells for key, *cells in ROW.findall(text)}


def test_each_key_of_each_part_has_a_row() -> None:
    assert list(section("Top level")) == list(Recipe.model_fields)
    assert list(section("tune")) == list(Tune.model_fields)
    assert list(section("gate")) == list(Gate.model_fields)
    for part in ("questions", "tasks", "lm_eval"):
        assert section(f"evaluate.{part}")


def test_each_key_has_a_description() -> None:
    rows = ROW.findall(recipe_reference.reference())
    assert len(rows) > 90
    assert [key for key, *_, description in rows if len(description) < 10] == []


def test_a_row_has_type_default_and_limits() -> None:
    assert section("tune")["learning_rate"][:3] == ["number", "`0.0002`", "> 0, ≤ 1"]
    assert section("tune")["method"][:3] == ["text", "`qlora`", "`qlora`, `lora`"]
    assert section("tune")["targets"][:3] == ["list of text", "empty", ""]
    assert section("serve")["enabled"][:3] == ["true or false", "`true`", ""]
    assert section("serve")["port"][:3] == ["integer", "not set", "≥ 1, ≤ 65535"]
    assert section("data")["train"][:2] == ["text or list", "required"]
    assert section("data")["validation"][:2] == ["text or list of text", "empty"]
    assert section("data.train")["weight"][:3] == ["number", "not set", "> 0"]


def test_a_file_that_differs_or_is_missing_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["render"]) == 0
    assert "docs/recipe.md" in capsys.readouterr().out
    assert main(["render", "--check"]) == 0
    Path("docs/recipe.md").write_text("#")
    assert main(["render", "--check"]) == 2
    assert "docs/recipe.md differs from the code; run: fineline render" in capsys.readouterr().err
    Path("docs/recipe.md").unlink()
    assert main(["render", "--check"]) == 2
    assert "docs/recipe.md is missing; run: fineline render" in capsys.readouterr().err


def test_another_folder_gets_manifests_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["render", "elsewhere"]) == 0
    assert main(["render", "elsewhere", "--check"]) == 0
    assert not Path("docs").exists()
