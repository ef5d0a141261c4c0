"""The journal of a training's steps."""

from pathlib import Path

from steps.tune.report.step_journal import JOURNAL, StepJournal, parse_journal


def test_a_step_that_was_repeated_counts_once_and_a_line_that_was_cut_off_does_not(tmp_path: Path) -> None:
    file = tmp_path / JOURNAL
    StepJournal(tmp_path).log(0, {"held_out_loss": 3.0})
    for step in (1, 2, 3):
        StepJournal(tmp_path).log(step, {"loss": 1.0 / step})
    with file.open("a") as out:
        out.write('{"step": 4, "lo')
    with file.open("a") as out:
        out.write("\n")
    StepJournal(tmp_path).log(3, {"loss": 0.25})  # resumed from the checkpoint of step 2
    StepJournal(tmp_path).log(3, {"held_out_loss": 2.0})
    found = parse_journal(file.read_bytes(), file)
    assert list(found) == [0, 1, 2, 3]
    assert (found[3]["loss"], found[3]["held_out_loss"]) == (0.25, 2.0)
    assert found[0]["time"] <= found[1]["time"]


def test_a_disk_that_refuses_a_line_does_not_stop_the_training(tmp_path: Path) -> None:
    StepJournal(tmp_path / "gone").log(1, {"loss": 1.0})
