"""What `prepare` reports of turns, of rows that are too long, and of answers that would not end."""

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from steps.common.handover.report import PreparedRecord, read_step_report
from steps.common.runtime.errors import UserError
from steps.plan.lengths import row_lengths
from steps.plan.step import PlanInput, resolve
from steps.prepare.step import PrepareInput, in_words, prepare


@pytest.fixture(autouse=True)
def _not_counted_by_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_lengths, "PACKAGES", ("a_package_that_is_not_there",))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Ten conversations of two turns. The second one of the first conversation makes it too long."""
    file = tmp_path / "rows.jsonl"
    with file.open("w") as out:
        for number in range(10):
            said = [f"cats {number}?", "yes", "dogs? " * (60 if number == 0 else 1), "no"]
            roles = ["user", "assistant"] * 2
            turns = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
            out.write(json.dumps({"messages": turns}) + "\n")
    return file


def prepared(model: Path, rows: Path, **data: Any) -> PreparedRecord:
    recipe = {"name": "tiny", "model": model.as_uri(), "data": {"train": str(rows), "max_tokens": 64, **data}}
    resolved = resolve(PlanInput(recipe=json.dumps({**recipe, "serve": {"enabled": False}})))
    found = prepare(PrepareInput(resolved=resolved, tokenizer_folder=str(model)))
    return read_step_report(PreparedRecord, Path(found.folder))


def test_a_row_that_is_too_long_stops_is_skipped_or_is_cut(tiny_model: Path, rows: Path) -> None:
    with pytest.raises(UserError, match=r"rows.jsonl:1: is \d+ tokens long, over data.max_tokens \(64\); fix the row"):
        prepared(tiny_model, rows)
    skipped = prepared(tiny_model, rows, too_long="skip")
    assert (skipped.train_rows + skipped.validation_rows, skipped.too_long_rows, skipped.bad_rows) == (9, 1, 0)
    assert in_words(skipped).endswith(", 1 too long; 16 turns of the assistant learned, 0 only read")
    others = rows.with_name("others.jsonl")
    others.write_text("".join(json.dumps({"prompt": f"fish {n}?", "completion": "yes"}) + "\n" for n in range(2)))
    cut = prepared(tiny_model, rows, too_long="cut", validation=str(others))
    assert (cut.train_rows, cut.turns_learnt, cut.turns_read, cut.turns_cut) == (10, 19, 0, 1)
    assert (cut.too_long_rows, cut.bad_rows) == (0, 0)
    assert cut.turns_in_words == "19 turns of the assistant learned, 0 only read, 1 cut off"


def test_answers_that_would_not_end_are_warned_of(
    tiny_model: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepared(tiny_model, rows, max_tokens=512).warnings == []
    endless = copytree(tiny_model, tmp_path / "endless")
    template = endless / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_end|>", "<|endoftext|>"))
    (endless / "generation_config.json").unlink()
    (warning,) = prepared(endless, rows, max_tokens=512).warnings
    assert warning.startswith("no row teaches the model to stop: its chat template ends no turn with '<|im_end|>', so")
    assert f"warning: {warning}" in capsys.readouterr().err
    (endless / "generation_config.json").write_text('{"eos_token_id": 0}')
    assert prepared(endless, rows, max_tokens=512).warnings == []
