"""Prepared rows: what is written is what is read, one row at a time."""

from pathlib import Path

import pytest

from steps.common.model import prepared_rows
from steps.common.model.packs import IGNORE_INDEX, TokenRow, pack, packed_numbers
from steps.common.model.prepared_rows import (
    ROWS_FILE,
    PreparedPairs,
    PreparedRejected,
    PreparedTexts,
    row_schema,
    table_of,
    write_rows,
)
from steps.common.rows.conversation import Conversation
from steps.common.runtime.errors import UserError

CHAT = Conversation.of(("user", "cats?"), ("assistant", "yes"))
ROWS = [
    TokenRow([5, 6, 7], [IGNORE_INDEX, 6, 7], CHAT),
    TokenRow([8], [8]),
    TokenRow([9, 10, 11, 12, 13], [IGNORE_INDEX, 10, IGNORE_INDEX, IGNORE_INDEX, 13]),
    TokenRow([14, 15], [IGNORE_INDEX, 15]),
]


def test_rows_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared_rows, "BATCH_ROWS", 3)
    monkeypatch.setattr(prepared_rows, "RELEASED_BYTES", 8)  # the pages are given back after nearly each row
    write_rows(tmp_path / "train", [table_of(ROWS * 5)])
    found = PreparedTexts.open(tmp_path / "train")
    assert list(found) == ROWS * 5
    assert found.lengths.tolist() == [3, 1, 5, 2] * 5
    chosen = found.select([6, 0])
    assert list(chosen) == [ROWS[2], ROWS[0]]
    assert chosen.lengths.tolist() == [5, 3]
    assert list(found.select([])) == []


def test_the_file_does_not_depend_on_the_tables_that_it_was_written_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared_rows, "BATCH_ROWS", 2)
    table = table_of(ROWS * 3)
    write_rows(tmp_path / "one", [table])
    write_rows(tmp_path / "many", [table.slice(start, 5) for start in (0, 5, 10)])
    assert (tmp_path / "one" / ROWS_FILE).read_bytes() == (tmp_path / "many" / ROWS_FILE).read_bytes()


def test_a_pair_has_both_sides_and_the_tokens_of_both(tmp_path: Path) -> None:
    import pyarrow

    columns = {
        "input_ids": [[5, 6], [5, 7, 8]],
        "learnt": [[1, 2], [1, 3]],
        "rejected_ids": [[5, 9, 9], [5, 9]],
        "rejected_learnt": [[1, 3], [1, 2]],
        "tie": [3, 4],
        "conversation": ["", ""],
    }
    write_rows(tmp_path / "train", [pyarrow.table(columns, schema=row_schema())])
    pairs = PreparedPairs.open(tmp_path / "train").select([1, 0])
    assert [pair.number for pair in pairs] == [1, 0]
    assert [pair.sides for pair in pairs] == [
        (TokenRow([5, 7, 8], [IGNORE_INDEX, 7, 8]), TokenRow([5, 9], [IGNORE_INDEX, 9])),
        (TokenRow([5, 6], [IGNORE_INDEX, 6]), TokenRow([5, 9, 9], [IGNORE_INDEX, 9, 9])),
    ]
    assert pairs.lengths.tolist() == [5, 5]
    assert PreparedTexts.open(tmp_path / "train").lengths.tolist() == [2, 3]
    assert list(PreparedRejected.open(tmp_path / "train")) == [pair.rejected for pair in pairs.select([1, 0])]


def test_rows_are_packed_by_their_lengths_before_any_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "train", [table_of(ROWS)])
    found = PreparedTexts.open(tmp_path / "train")
    with monkeypatch.context() as patched:
        patched.setattr(PreparedTexts, "__getitem__", None)
        assert [numbers.tolist() for numbers in packed_numbers(found, 6)] == [[2, 1], [0, 3]]
    assert list(pack(found, 6)) == [[ROWS[2], ROWS[1]], [ROWS[0], ROWS[3]]]


def test_rows_of_an_earlier_release_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"was prepared by an earlier release; start a new run$"):
        PreparedTexts.open(tmp_path / "train")
