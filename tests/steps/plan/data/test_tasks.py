"""The files of evaluation tasks: pinned by the plan, part of a version's digest, and read again unchanged."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from steps.common.handover.made_from import made_from
from steps.common.handover.resolved import Resolved, ResolvedChat
from steps.common.rows.conversation import Conversation, Message
from steps.common.runtime.errors import UserError
from steps.common.structured.parse_calls import parse_calls
from steps.evaluate.scores.task_rows import read_task_rows, spread
from steps.plan.step import PlanInput, resolve

ASKED = '{"prompt": "capital of %s?", "completion": "city %s"}\n'


def planned(model: Path, chats: Path, *tasks: dict[str, Any], tool_parser: str = "auto") -> Resolved:
    wanted = {
        "name": "tiny",
        "model": model.as_uri(),
        "data": {"train": str(chats), "max_tokens": 64},
        "evaluate": {"tasks": list(tasks)},
        "chat": {"tool_parser": tool_parser},
    }
    return resolve(PlanInput(recipe=str(wanted)))


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(ASKED % (number, number) for number in range(9)))
    return file


def test_a_tasks_rows_are_asked_spread_over_its_file(tiny_model: Path, chats: Path, asked: Path) -> None:
    resolved = planned(tiny_model, chats, {"data": str(asked), "metric": "exact", "rows": 3}, {"metric": "rouge_l"})
    held_out = [Conversation.of(("system", "be kind"), ("user", "hello"), ("assistant", "good day"))]
    own, held = read_task_rows(resolved, held_out)
    assert own.chats == [Conversation.of(("user", f"capital of {number}?")) for number in (0, 3, 6)]
    assert [one.content for one in own.references] == ["city 0", "city 3", "city 6"]
    assert own.values(["City 0.", "city 4", ""]) == [1, 0, 0]
    assert (held.name, held.chats, held.references) == (
        "rouge_l of heldout",
        [Conversation.of(("system", "be kind"), ("user", "hello"))],
        [Message("assistant", "good day")],
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


ORDER = '{"prompt": "two bags of Velvet", "completion": "{\\"item\\": \\"Velvet\\"}"}\n'
CALL = '{"prompt": "open the door", "completion": "<tool_call>{\\"name\\": \\"open\\"}</tool_call>"}\n'
CHAT = '{"prompt": "hello", "completion": "good day"}\n'
BROKEN = '{"prompt": "open", "completion": "<tool_call>{"}\n'


@pytest.mark.parametrize(
    ("metric", "text", "told"),
    [
        (
            "json_equal",
            ORDER + CHAT,
            r"evaluate.tasks.0: .*asked.jsonl:2: its answer, the reference of json_equal, is not JSON",
        ),
        ("call", CALL + BROKEN, "asked.jsonl:2: its answer, the reference of call, begins a call that cannot be read"),
        ("call", CHAT * 2, "asked.jsonl: no row's answer calls a tool"),
    ],
)
def test_a_reference_that_its_metric_cannot_use_stops_the_plan(
    tiny_model: Path, chats: Path, asked: Path, metric: str, text: str, told: str
) -> None:
    asked.write_text(text)
    with pytest.raises(UserError, match=told):
        planned(tiny_model, chats, {"data": str(asked), "metric": metric})


def test_of_the_held_out_rows_a_task_has_those_that_its_metric_is_about(tiny_model: Path, chats: Path) -> None:
    answers = ["good day", '{"item": "Velvet"}', '<tool_call>{"name": "open"}</tool_call>']
    held_out = [Conversation.of(("user", "?"), ("assistant", answer)) for answer in answers]
    metrics = ("exact", "json_valid", "json_equal", "call")
    tasks = read_task_rows(planned(tiny_model, chats, *({"metric": metric} for metric in metrics)), held_out)
    assert [[one.content for one in task.references] for task in tasks] == [
        answers,
        answers[1:2],
        answers[1:2],
        answers[2:],
    ]
    for metric in metrics[1:]:
        with pytest.raises(UserError, match=r"heldout has no row with a reference answer that (is JSON|calls a tool)"):
            read_task_rows(planned(tiny_model, chats, {"metric": metric}), held_out[:1])


def test_a_call_counts_in_the_format_of_the_model_and_a_name_alone_is_none(
    tiny_model: Path, chats: Path, asked: Path
) -> None:
    answers = ['{"name": "Rex", "age": 3}', '{"name": "f", "parameters": {}}', '<tool_call>{"name": "f"}</tool_call>']
    held_out = [Conversation.of(("user", "?"), ("assistant", answer)) for answer in answers]
    resolved = planned(tiny_model, chats, {"metric": "call"})
    for family, called in (("", answers[1:]), ("llama3_json", answers[1:2]), ("hermes", answers[2:])):
        as_family = resolved.model_copy(update={"chat": ResolvedChat(tool_parser=family)})
        (task,) = read_task_rows(as_family, held_out)
        assert [one.content for one in task.references] == called
        assert task.values(called, partial(parse_calls, family=family)) == [1] * len(called)
    asked.write_text(CALL)
    with pytest.raises(
        UserError, match=r"no row's answer calls a tool in the format 'llama3_json' \(chat.tool_parser\)"
    ):
        planned(tiny_model, chats, {"data": str(asked), "metric": "call"}, tool_parser="llama3_json")


def test_a_row_that_should_call_no_tool_counts_in_a_file_of_calls(tiny_model: Path, chats: Path, asked: Path) -> None:
    asked.write_text(CALL + CHAT)
    (task,) = read_task_rows(planned(tiny_model, chats, {"data": str(asked), "metric": "call"}), [])
    opens = '<tool_call>{"name": "open", "arguments": {}}</tool_call>'
    assert task.keeps_special_tokens
    assert task.values([opens, "good morning"]) == [1, 1]
    assert task.values([opens, opens]) == [1, 0]
    assert task.values(["", ""]) == [0, 1]
