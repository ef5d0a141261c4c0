"""Copies the examples that were chosen out of the labelled pieces, one batch at a time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from steps.common.rows.files.raw_record import RawRecord
from steps.common.rows.read_rows import parse
from steps.common.rows.row import BadRow, RowPlace
from steps.prepare.example_index import ExampleIndex, batches
from steps.prepare.map_rows import BATCH_ROWS

if TYPE_CHECKING:
    import pyarrow


def chosen_tables(index: ExampleIndex, chosen: numpy.ndarray) -> Iterator["pyarrow.Table"]:
    """Yield the chosen examples in their order.

    Args:
        index: of all examples.
        chosen: indices in increasing order, with repetitions.
    """
    for _, table in _tables(index, chosen):
        yield table


def with_conversations(index: ExampleIndex, chosen: numpy.ndarray) -> Iterator["pyarrow.Table"]:
    """Yield the chosen examples with their conversations, read from the records once more: only few rows need them."""
    import pyarrow

    path = Path()
    for records, table in _tables(index, chosen):
        if records != path:
            with pyarrow.memory_map(str(records)) as mapped:
                payloads = pyarrow.ipc.open_stream(mapped).read_all()
            path, first = records, payloads.column("number")[0].as_py()
        numbers, counts = table.column("number").to_pylist(), table.column("messages").to_pylist()
        found = [
            _conversation(payloads.column("payload")[number - first].as_py(), count) if count else ""
            for number, count in zip(numbers, counts, strict=True)
        ]
        at = table.schema.get_field_index("conversation")
        yield table.set_column(at, "conversation", pyarrow.array(found, pyarrow.string()))


def _conversation(payload: bytes, messages: int) -> str:
    """Return the beginning of a record's conversation, of that many messages, as JSON."""
    found = parse(RowPlace("", 0), RawRecord(0, payload))
    assert not isinstance(found, BadRow) and found[1].conversation, "a record that was labelled can be parsed"
    chat = found[1].conversation
    return replace(chat, messages=chat.messages[:messages]).to_json()


def _tables(index: ExampleIndex, chosen: numpy.ndarray) -> Iterator[tuple[Path, "pyarrow.Table"]]:
    import pyarrow

    at = 0
    for piece in index.pieces:
        for batch in batches(piece):
            first, last = numpy.searchsorted(chosen, [at, at + batch.num_rows])
            if last > first:
                table = pyarrow.Table.from_batches([batch])
                for begin in range(int(first), int(last), BATCH_ROWS):  # a row may be repeated any number of times
                    places = pyarrow.array(chosen[begin : min(begin + BATCH_ROWS, int(last))] - at)
                    yield piece.records, table.take(places)
            at += batch.num_rows
