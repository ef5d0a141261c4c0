"""Rows that are too long are counted in a sample, with the model's own tokenizer, before anything is bought."""

import json
from pathlib import Path
from typing import Any

import pytest

from steps.common.handover.resolved import ResolvedChat
from steps.common.rows.conversation import Conversation
from steps.common.rows.row import Row
from steps.common.runtime.errors import UserError
from steps.plan import row_lengths
from steps.plan.row_lengths import lengths
from steps.plan.step import PlanInput, resolve


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    turns = [("cats?", "yes " * 100 if number % 4 == 0 else "yes") for number in range(40)]
    chats = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in turns]
    file.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    return file


def planned(model: str, rows: Path, **data: Any) -> None:
    recipe = {"name": "tiny", "model": model, "data": {"train": str(rows), "max_tokens": 64, **data}}
    resolve(PlanInput(recipe=json.dumps({**recipe, "serve": {"enabled": False}})))


def test_the_plan_says_how_many_rows_are_too_long_and_stops_if_the_recipe_does(
    tiny_model: Path, rows: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UserError, match=r"data.max_tokens: 10 of 40 in a sample \(25.0%\); the longest has \d+ tokens, and"
    ):
        planned(tiny_model.as_uri(), rows)
    for choice, words in (("skip", "they are left out"), ("cut", "they are cut between turns")):
        planned(tiny_model.as_uri(), rows, too_long=choice)
        assert words in capsys.readouterr().err
    planned(tiny_model.as_uri(), rows, max_tokens=512)
    assert "rows over data.max_tokens (512): none of 40 in a sample" in capsys.readouterr().err
    monkeypatch.setattr(row_lengths, "PACKAGES", ("a_package_that_is_not_there",))
    planned(tiny_model.as_uri(), rows)
    assert "not counted, since the model's tokenizer is not in this image" in capsys.readouterr().err


def test_a_length_is_that_of_the_rendered_row(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    chats = [Conversation.of(("user", "cats?"), ("assistant", "yes " * number)) for number in (1, 9)]
    found = lengths([Row(chat) for chat in chats], tiny_model, 20, ResolvedChat())
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    wanted = [len(tokenizer.apply_chat_template(chat.for_template())["input_ids"]) for chat in chats]
    assert found is not None
    assert (found.rows, found.longest, found.too_long) == (2, max(wanted), sum(one > 20 for one in wanted))
