"""The split: no question on both sides, no row twice, whatever the order of the rows."""

import random

import numpy
import pytest

from steps.common.rows.conversation import Conversation, Message
from steps.common.rows.row import Row
from steps.common.runtime.errors import UserError
from steps.prepare.split import RowKeys, row_hashes, split

SEED = 5


def chat(asked: str, answer: str, rejected: str = "") -> Row:
    other = Message("assistant", rejected) if rejected else None
    return Row(Conversation.of(("user", asked), ("assistant", answer)), rejected=other)


def keys(rows: list[Row]) -> RowKeys:
    found = b"".join(half for row in rows for half in row_hashes(row, SEED))
    halves = numpy.frombuffer(found, ">u8").astype(numpy.uint64).reshape(-1, 4)
    return RowKeys(halves[:, :2], halves[:, 2:], numpy.arange(len(rows)))


def test_duplicates_are_identical_pairs_and_no_prompt_is_in_both_splits() -> None:
    rows = [chat("cats?", "a", "b"), chat("Cats", "A.", "b"), chat("cats?", "a", "c"), chat("dogs?", "a", "b")]
    parts = split(keys(rows), keys([chat("CATS!", "z", "y")]), 0.1)
    assert (parts.duplicates, parts.leaked) == (1, 2)
    assert parts.train.tolist() == [3]
    assert parts.validation.tolist() == [0]
    alone = split(keys(rows), keys([]), 0.5)
    assert {tuple(alone.train.tolist()), tuple(alone.validation.tolist())} == {(0, 2), (3,)}


def test_the_same_rows_are_split_alike_in_any_order() -> None:
    rows = [chat(f"question {number % 40}?", f"answer {number % 50}") for number in range(120)]
    found = []
    for seed in range(3):
        order = random.Random(seed).sample(rows, len(rows))
        parts = split(keys(order), keys([]), 0.25)
        sides = [sorted(order[row].content for row in side) for side in (parts.train, parts.validation)]
        assert not {order[row].question for row in parts.train} & {order[row].question for row in parts.validation}
        assert len({order[row].question for row in parts.validation}) == 10
        assert len(sides[0]) + len(sides[1]) + parts.duplicates == len(rows)
        found.append(sides)
    assert found[0] == found[1] == found[2]


def test_sums_and_vowel_signs_are_no_duplicates() -> None:
    asked = ["7 + 2 =", "7 - 2 =", "7 * 2 =", "\u0926\u093f\u0928", "\u0926\u0940\u0928", "\u0926\u093e\u0928"]
    parts = split(keys([chat(one, "is it") for one in asked]), keys([chat("8 - 4 =", "4")]), 0.1)
    assert (len(parts.train), parts.duplicates, parts.leaked) == (len(asked), 0, 0)


def test_one_question_cannot_be_split() -> None:
    with pytest.raises(UserError, match=r"data\.train: has only one question"):
        split(keys([chat("a?", "b"), chat("a", "c")]), keys([]), 0.5)
    with pytest.raises(UserError, match=r"data\.train: no row is left"):
        split(keys([chat("a?", "b")]), keys([chat("a", "c")]), 0.5)
