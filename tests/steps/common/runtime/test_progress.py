"""What a step's progress writes to its log and to the files of those who show it, on a clock that the test moves."""

from pathlib import Path

import pytest

from steps.common.runtime.progress import ARGO_SETTING, LINE_SETTING, PREFIX, Progress, say
from steps.common.runtime.waiting import WaitingLine
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    found = tmp_path / "argo", tmp_path / "line"
    for setting, file in zip((ARGO_SETTING, LINE_SETTING), found, strict=True):
        monkeypatch.setenv(setting, str(file))
    return found


def test_the_log_has_a_line_at_the_start_at_the_end_and_every_half_minute(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(100, "steps", clock)
    reported = 0
    for quarter in range(401):
        reported += progress.update(quarter // 4, f"loss {quarter}")
        clock.now += 0.25
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "progress: 0/100 steps",
        *[f"progress: {count}/100 steps" for count in (30, 60, 90)],
        "progress: 100/100 steps",
    ]
    assert reported == 101


def test_the_files_are_rewritten_each_second(
    clock: Clock, files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    argo, line = files
    progress = Progress(10, "rows", clock)
    assert progress.update(1)
    clock.now += 0.5
    assert not progress.update(2)
    assert argo.read_text() == "1/10\n"
    clock.now += 0.5
    assert progress.update(3, "so far good")
    assert argo.read_text() == "3/10\n"
    assert line.read_text().startswith("3/10 rows, so far good, ")
    assert progress.update(10)
    assert (argo.read_text(), line.read_text()) == ("10/10\n", "10/10 rows\n")
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_line_of_progress_is_the_displays_too(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    say("loading the model")
    assert not files[1].exists()
    say(f"{PREFIX}waiting for another rollout")
    assert files[1].read_text() == "waiting for another rollout\n"
    assert capsys.readouterr().err.splitlines() == ["loading the model", "progress: waiting for another rollout"]


def test_a_wait_is_a_line_when_it_changes_and_every_half_minute(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    line = WaitingLine(clock)
    for second in range(100):
        line.report("the first" if second < 70 else "the second", f"{second} MB")
        clock.now += 1
    assert capsys.readouterr().err.splitlines() == [
        "progress: waiting for the first, 0 MB",
        "progress: waiting for the first, 30 MB, 30s",
        "progress: waiting for the first, 60 MB, 1m00s",
        "progress: waiting for the second, 70 MB, 1m10s",
    ]
