"""Rows: every form is converted to one type, and every bad row is reported with its place."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from steps.common.rows.conversation import Conversation, Message
from steps.common.rows.read_rows import read_rows
from steps.common.rows.row import BadRow, Row

CHAT = Row(Conversation.of(("user", "hi"), ("assistant", "hello")))
PAIR = Row(CHAT.conversation, rejected=Message("assistant", "what"))
ASKED = [{"role": "user", "content": "hi"}]


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


FORMS: list[tuple[dict[str, Any], Row]] = [
    ({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}, CHAT),
    ({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}, CHAT),
    ({"prompt": "hi", "completion": "hello"}, CHAT),
    ({"instruction": "hi", "output": "hello"}, CHAT),
    (
        {"instruction": "say", "input": "hi", "output": "hello"},
        Row(Conversation.of(("user", "say\n\nhi"), ("assistant", "hello"))),
    ),
    ({"text": "hello"}, Row(text="hello")),
    ({"prompt": "hi", "chosen": "hello", "rejected": "what"}, PAIR),
    ({"prompt": ASKED, "chosen": [said("hello")], "rejected": [said("what")]}, PAIR),
    ({"chosen": [*ASKED, said("hello")], "rejected": [*ASKED, said("what")]}, PAIR),
    # As UltraFeedback has it: the prompt beside whole conversations, and the chosen one twice.
    (
        {
            "prompt": "hi",
            "messages": [*ASKED, said("hello")],
            "chosen": [*ASKED, said("hello")],
            "rejected": [*ASKED, said("what")],
            "score_chosen": "8.5",
        },
        PAIR,
    ),
    (
        {"system": "be kind", "question": "hi", "chosen": "hello", "rejected": "what"},
        Row(
            Conversation.of(("system", "be kind"), ("user", "hi"), ("assistant", "hello")),
            rejected=Message("assistant", "what"),
        ),
    ),
    (
        {"prompt": "hi", "chosen": "[{} is no list", "rejected": "what"},
        Row(Conversation.of(("user", "hi"), ("assistant", "[{} is no list")), rejected=Message("assistant", "what")),
    ),
]


def rows(path: Path) -> list[Row]:
    found = list(read_rows(path))
    assert not [row for row in found if isinstance(row, BadRow)]
    return [row[1] for row in found if not isinstance(row, BadRow)]


@pytest.mark.parametrize(("columns", "row"), FORMS)
def test_every_form_in_every_kind_of_file(tmp_path: Path, columns: dict[str, Any], row: Row) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(columns) + "\n\n" + json.dumps(columns) + "\n")
    assert rows(tmp_path / "a.jsonl") == [row, row]
    parquet.write_table(pa.Table.from_pylist([columns]), tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet") == [row]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerow({k: v if isinstance(v, str) else json.dumps(v) for k, v in columns.items()})
    assert rows(tmp_path / "a.csv") == [row]


U, A, B = ({"role": role, "content": text} for role, text in (("user", "x"), ("assistant", "a"), ("assistant", "b")))


def pair(chosen: Any, rejected: Any, **others: Any) -> str:
    return json.dumps({"chosen": chosen, "rejected": rejected, **others})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"messages": [', "not JSON at column"),
        ("[1]", "not an object"),
        ('{"question": "x"}', "has the columns question; expected are messages"),
        ('{"messages": []}', "'messages' is empty"),
        ('{"messages": [{"role": "usr", "content": "x"}]}', "message 1 has the role 'usr'"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "has no assistant message"),
        ('{"messages": [{"role": "user", "content": " "}]}', "message 1 (user) has no content"),
        ('{"prompt": "x", "completion": null}', "'completion' is null, not text"),
        ('{"prompt": "x", "chosen": "a b", "rejected": "a  b "}', "are the same answer"),
        ('{"prompt": "x", "chosen": "a", "rejected": null}', "'rejected' is null, not text"),
        ('{"prompt": "x", "chosen": "a"}', "or prompt, chosen and rejected"),
        ('{"chosen": "a", "rejected": "b"}', "'chosen' is only an answer, and there is no column 'prompt'"),
        (pair([U, A], [{**U, "content": "y"}, B]), "they differ in message 1, and only the last may differ"),
        (pair([U, A], [U, A, U, B]), "they differ in length, 2 and 4 messages"),
        (pair([U, A], [U]), "'rejected', with its prompt, does not end with an assistant message"),
        (pair([U, A], [U, B], prompt="z"), "'chosen' is a whole conversation, and 'prompt' is not one of its messages"),
        (pair([U, A], [U, B], prompt=[{**U, "content": "z"}]), "and does not begin with 'prompt'"),
        (pair([{"role": "robot", "content": "x"}], [B]), "message 1 has the role 'robot'"),
    ],
)
def test_a_bad_row_is_told_with_file_line_and_reason(tmp_path: Path, line: str, reason: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"text": "good"}\n' + line + "\n")
    good, bad = read_rows(file)
    assert not isinstance(good, BadRow)
    assert isinstance(bad, BadRow)
    assert str(bad).startswith(f"{file}:2: ")
    assert reason in bad.reason
