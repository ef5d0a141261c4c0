"""The numbers of all examples, and the copying of those that are chosen, from labelled files."""

from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest

from steps.common.handover.resolved import DataFile, DataSource
from steps.common.rows.files.raw_record import RawRecord
from steps.prepare.chosen_rows import chosen_tables
from steps.prepare.example_index import SHOWN, ExampleIndex, read_index
from steps.prepare.labelled_table import labelled_schema
from steps.prepare.map_rows import BATCH_ROWS, LabelledPiece
from steps.prepare.raw_pieces import SourceFiles, write_pieces


def indexed(folder: Path, *batches: list[dict[str, Any]]) -> ExampleIndex:
    """Index a piece with these batches of examples."""
    schema = labelled_schema()
    empty: dict[str, Any] = {
        name: [] if pyarrow.types.is_list(kind) else None for name, kind in zip(schema.names, schema.types, strict=True)
    }
    zeros = {name: 0 for name, kind in zip(schema.names, schema.types, strict=True) if pyarrow.types.is_integer(kind)}
    examples = folder / "labelled.arrow"
    with pyarrow.OSFile(str(examples), "wb") as out, pyarrow.ipc.new_stream(out, schema) as writer:
        for batch in batches:
            rows = [{**empty, **zeros, "stops": True, "too_long": False, "conversation": "", **row} for row in batch]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
    file = DataFile(path="rows.jsonl", sha256="", bytes=0)
    files = SourceFiles([DataSource(source=file.path, files=[file])], [])
    return read_index([LabelledPiece(folder / "raw.arrow", [examples])], files, folder / "bad_rows.txt")


def test_a_row_whose_examples_lie_in_two_batches_counts_once(tmp_path: Path) -> None:
    one, two, three = ({"number": number, "ignored": ["category"]} for number in range(3))
    index = indexed(tmp_path, [one, two], [two], [two, three])
    assert index.ignored == {"category": 3}


def test_bad_rows_are_in_the_file_and_the_first_in_memory(tmp_path: Path) -> None:
    bad = [{"number": number, "line": number + 1, "reason": f"é {number}"} for number in range(SHOWN + 5)]
    long = {"number": 99, "line": 99, "reason": "long", "too_long": True}
    index = indexed(tmp_path, [bad[0], long, *bad[1:]])
    assert (index.bad.count, index.bad.too_long, len(index.bad.first)) == (SHOWN + 5, 1, SHOWN)
    lines = (tmp_path / "bad_rows.txt").read_text(encoding="utf-8").splitlines()
    assert lines == [*(f"rows.jsonl:{row['line']}: {row['reason']}" for row in bad), "rows.jsonl:99: long"]
    assert index.good.tolist() == [False] * (SHOWN + 6)
    assert {path.name for path in tmp_path.iterdir()} == {"bad_rows.txt", "labelled.arrow"}


def test_a_row_that_is_often_repeated_comes_in_tables_of_bounded_size(tmp_path: Path) -> None:
    index = indexed(tmp_path, [{"number": 0, "input_ids": [5]}, {"number": 1, "input_ids": [6, 7]}])
    tables = list(chosen_tables(index, numpy.repeat([0, 1], [1, 3 * BATCH_ROWS])))
    assert max(table.num_rows for table in tables) <= BATCH_ROWS
    found = pyarrow.concat_tables(tables).column("input_ids").to_pylist()
    assert found == [[5], *[[6, 7]] * (3 * BATCH_ROWS)]


def test_records_are_not_held_once_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.prepare.raw_pieces.BATCH_BYTES", 250)
    monkeypatch.setattr("steps.prepare.raw_pieces.PIECE_BYTES", 1000)
    records = [(0, 0, RawRecord(line, bytes(100))) for line in range(25)]
    pieces = [pyarrow.ipc.open_stream(path.read_bytes()).read_all() for path in write_pieces(iter(records), tmp_path)]
    assert [piece.num_rows for piece in pieces] == [10, 10, 5]
    assert max(len(chunk) for piece in pieces for chunk in piece.column("payload").chunks) == 3
    assert [number for piece in pieces for number in piece.column("number").to_pylist()] == list(range(25))
