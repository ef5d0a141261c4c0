"""The records of all files as they stand there, in Arrow files of bounded size: from them, processes take their parts."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.common.handover.resolved import DataFile, DataSource, as_planned
from steps.common.rows.files.raw_record import RawRecord
from steps.common.rows.read_rows import read_raw
from steps.common.rows.row import RowPlace
from steps.common.runtime.progress import Progress

if TYPE_CHECKING:
    import pyarrow

PIECE_BYTES = 128 << 20  # of records in a file; the processes are started anew for each
# Of the first file. One process labels so few records, and those that follow inherit the words that it has tokenised.
FIRST_PIECE_BYTES = 1 << 20
BATCH_ROWS, BATCH_BYTES = 1024, 8 << 20  # whatever is reached first


@dataclass
class SourceFiles:
    """The files of all sources, of training rows and then of held-out rows, in the order in which they are read."""

    train: list[DataSource]
    validation: list[DataSource]

    @cached_property
    def numbered(self) -> list[tuple[int, DataFile]]:
        """By the number of a file, the number of its source and the file."""
        sources = enumerate([*self.train, *self.validation])
        return [(number, file) for number, source in sources for file in source.files]

    def records(self) -> Iterator[tuple[int, int, RawRecord]]:
        """Read all records, each with the number of its source and of its file.

        Raises:
            UserError: a file has changed since the run was planned, or cannot be read.
        """
        for number, (source, file) in enumerate(self.numbered):
            for record in read_raw(as_planned(file)):
                yield source, number, record

    def progress(self) -> Progress:
        """Return a progress that counts their records."""
        names = [Path(file.path).name for _, file in self.numbered]
        return Progress(0, f"rows of {names[0]}" if len(names) == 1 else f"rows of {len(names)} files")

    def place(self, file: int, line: int) -> RowPlace:
        """Return the place of a record."""
        return RowPlace(self.numbered[file][1].path, line)


def raw_schema() -> "pyarrow.Schema":
    """Return the columns of a piece."""
    import pyarrow

    return pyarrow.schema(
        [
            ("source", pyarrow.int32()),
            ("file", pyarrow.int32()),
            ("line", pyarrow.int64()),
            ("number", pyarrow.int64()),  # among all records, from 0
            ("payload", pyarrow.binary()),
            ("reason", pyarrow.string()),
        ]
    )


def write_pieces(records: Iterable[tuple[int, int, RawRecord]], folder: Path) -> Iterator[Path]:
    """Write the records in pieces, and yield each piece when it is written. Only a batch of records is in memory."""
    numbered = enumerate(records)
    for piece, first in enumerate(numbered):
        path = folder / f"raw-{piece:05}.arrow"
        _write_piece(
            path, itertools.chain([first], numbered), PIECE_BYTES if piece else min(FIRST_PIECE_BYTES, PIECE_BYTES)
        )
        yield path


def _write_piece(path: Path, records: Iterable[tuple[int, tuple[int, int, RawRecord]]], most: int) -> None:
    """Write records, of at least so many bytes as long as there are some."""
    import pyarrow

    schema = raw_schema()
    size = held = 0
    rows: list[tuple[Any, ...]] = []
    with pyarrow.OSFile(str(path), "wb") as out, pyarrow.ipc.new_stream(out, schema) as writer:

        def flush() -> None:
            columns = [list(column) for column in zip(*rows, strict=True)]
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))
            rows.clear()

        for number, (source, file, record) in records:
            rows.append((source, file, record.line, number, record.payload, record.reason))
            size, held = size + len(record.payload), held + len(record.payload)
            if len(rows) >= BATCH_ROWS or held >= BATCH_BYTES:
                flush()
                held = 0
            if size >= most:
                break
        if rows:
            flush()
