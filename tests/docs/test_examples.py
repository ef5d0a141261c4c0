"""Every recipe in examples/ can be planned. No test asks the network."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.command import main
from recipes.reader import load
from steps.common.lm_eval.pack import SUFFIX
from tests.docs.documents import EXAMPLES, ROOT, fineline_commands, name_of

CHATS = ROOT / "examples" / "own-data"


@pytest.fixture
def reachable(bucket: Any) -> None:
    """The rows of the recipe that reads them from an object store."""
    for name in ("train", "heldout"):
        bucket.upload_file(str(CHATS / f"{name}.jsonl"), "chats", f"support/{name}.jsonl")


def test_there_are_at_least_five_and_each_is_listed() -> None:
    assert len(EXAMPLES) >= 5
    listed = (ROOT / "examples" / "README.md").read_text()
    for file in EXAMPLES:
        assert f"]({file.parent.name}/recipe.yaml)" in listed


@pytest.mark.parametrize("file", EXAMPLES, ids=name_of)
def test_its_first_lines_say_how_to_run_it(file: Path) -> None:
    own = [command for command in fineline_commands() if command.file == file]
    assert any(str(file.relative_to(ROOT)) in command.words for command in own)


@pytest.mark.parametrize("file", EXAMPLES, ids=name_of)
@pytest.mark.usefixtures("reachable")
def test_it_can_be_planned(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load(str(file))
    # A model of a hub is quoted by its preset alone.
    where = [] if recipe.model.endswith(":pypi") else ["--cloud", "aws"]
    assert main(["plan", str(file), *where]) == 0
    shown = capsys.readouterr()
    assert f"quote for {recipe.name}" in shown.out
    for task in recipe.evaluate.lm_eval:
        assert f"rows of {task.task}" in shown.out + shown.err
        assert SUFFIX in shown.out + shown.err
