"""What the documentation shows as output is in the words that the code prints; figures are those of their day."""

import re
from pathlib import Path

import pytest

from pipelines.command import main
from recipes.reader import load
from tests.docs.documents import README, ROOT, fineline_commands

GPU_NODES = ROOT / "docs" / "gpu-nodes.md"


def output(file: Path, beginning: str) -> list[str]:
    """Return the lines of the indented block that has a line with this beginning."""
    found = re.findall(r"(?:^    .*\n)+", file.read_text(), re.MULTILINE)
    return [line.strip() for line in next(block for block in found if f"    {beginning}" in block).splitlines()]


def in_words(text: str) -> str:
    """Return a line without figures, frames, and spacing."""
    return " ".join(re.sub(r"[^a-zA-Z$/()-]", " ", text).split())


@pytest.mark.parametrize("file", [README, GPU_NODES], ids=["README", "gpu-nodes"])
def test_a_quote_is_shown_as_it_is_printed(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = [one for one in fineline_commands() if one.file == file and "--cloud" in one.words]
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("rich._console", None)  # whatever has printed before has fixed its width
    assert main(command.words[3:]) == 0
    printed = {in_words(line) for line in capsys.readouterr().out.splitlines()}
    for line in output(file, "│ first choice"):
        # A row's figures and GPU change with the prices; its words are those of some row.
        shown = in_words(line)
        assert not shown or shown in printed, line


def test_the_end_of_a_run_is_shown_in_the_words_of_the_code() -> None:
    files = [*(ROOT / "pipelines").rglob("*.py"), *(ROOT / "steps" / "evaluate").rglob("*.py")]
    files += (ROOT / "steps" / "common" / "handover").glob("*.py")
    code = " ".join(" ".join(file.read_text() for file in files).split())
    shown = output(README, "held-out rows")
    tasks = [f"{task.metric} of {task.called}" for task in load("pet-store").evaluate.tasks]
    assert [task for task in tasks if not any(line.startswith(f"{task}: ") for line in shown)] == []
    named = "|".join(["pet-store", *map(re.escape, tasks)])
    phrases = [
        phrase
        for line in shown
        if not line.startswith(("│", "┃"))
        for phrase in re.findall(r"[a-z][a-z' -]*[a-z]", re.sub(rf"\S+://\S+|{named}", ";", line))
    ]
    assert len(phrases) > 10
    assert [phrase for phrase in phrases if phrase not in code] == []


def test_a_refusal_is_shown_as_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    short = ["-o", "model=llama-3.3-70b-instruct", "-o", "compute.instance_types=[g6.xlarge]"]
    assert main(["plan", "--cloud", "aws", *short]) == 2
    shown = " ".join(output(GPU_NODES, "fineline: … ")).removeprefix("fineline: … ")
    assert in_words(shown) in in_words(capsys.readouterr().err)
