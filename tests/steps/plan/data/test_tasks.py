"""The files of evaluation tasks: pinned by the plan, part of a version's digest, and read again unchanged."""

from pathlib import Path
from typing import Any

import pytest

from steps.common.handover.made_from import made_from
from steps.common.handover.resolved import Resolved
from steps.common.model.packs import TokenRow
from steps.common.rows.conversation import Conversation
from steps.common.runtime.errors import UserError
from steps.evaluate.scores.task_rows import read_task_rows, spread
from steps.plan.step import PlanInput, resolve

ASKED = '{"prompt": "capital of %s?", "completion": "city %s"}\n'


def planned(model: Path, chats: Path, *tasks: dict[str, Any]) -> Resolved:
    wanted = {
        "name": "tiny",
        "model": model.as_uri(),
        "data": {"train": str(chats), "max_tokens": 64},
        "evaluate": {"tasks": list(tasks)},
    }
    return resolve(PlanInput(recipe=str(wanted)))


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(ASKED % (number, number) for number in range(9)))
    return file


def test_a_tasks_rows_are_asked_spread_over_its_file(tiny_model: Path, chats: Path, asked: Path) -> None:
    resolved = planned(tiny_model, chats, {"data": str(asked), "metric": "exact", "rows": 3}, {"metric": "rouge_l"})
    held_out = [
        TokenRow([1], [1], Conversation.of(("system", "be kind"), ("user", "hello"), ("assistant", "good day")))
    ]
    own, held = read_task_rows(resolved, held_out)
    assert own.chats == [Conversation.of(("user", f"capital of {number}?")) for number in (0, 3, 6)]
    assert own.references == ["city 0", "city 3", "city 6"]
    assert own.values(["City 0.", "city 4", ""]) == [1, 0, 0]
    assert (held.name, held.chats, held.references) == (
        "rouge_l of heldout",
        [Conversation.of(("system", "be kind"), ("user", "hello"))],
        ["good day"],
    )


def test_its_content_and_not_its_place_is_what_a_version_is_made_from(
    tiny_model: Path, chats: Path, asked: Path
) -> None:
    task = {"data": str(asked), "metric": "exact"}
    before = made_from(planned(tiny_model, chats, task))
    elsewhere = asked.rename(asked.with_name("elsewhere.jsonl"))
    assert made_from(planned(tiny_model, chats, {**task, "data": str(elsewhere)})) == before
    elsewhere.write_text(elsewhere.read_text().replace("city 3", "town 3"))
    assert made_from(planned(tiny_model, chats, {**task, "data": str(elsewhere)})) != before


def test_a_file_that_changes_after_the_plan_is_refused(tiny_model: Path, chats: Path, asked: Path) -> None:
    resolved = planned(tiny_model, chats, {"data": str(asked), "metric": "exact"})
    asked.write_text(asked.read_text() * 2)
    with pytest.raises(UserError, match="changed since the run was planned"):
        read_task_rows(resolved, [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ('{"prompt": "x"}\n', "evaluate.tasks.0: .*asked.jsonl:1: has the columns prompt"),
        (
            '{"text": "once upon a time"}\n',
            "asked.jsonl:1: is plain text; a task needs rows with a question and an answer",
        ),
    ],
)
def test_a_row_without_a_reference_stops_the_plan(
    tiny_model: Path, chats: Path, asked: Path, text: str, told: str
) -> None:
    asked.write_text(text)
    with pytest.raises(UserError, match=told):
        planned(tiny_model, chats, {"data": str(asked), "metric": "exact"})


def test_rows_are_spread_evenly() -> None:
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert spread([1, 2], 5) == [1, 2]
    assert spread([1, 2], 0) == []
