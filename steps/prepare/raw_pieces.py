"""The records of all files as they stand there, in Arrow files of bounded size: from them, processes take their parts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.common.handover.resolved import DataSource, as_planned
from steps.common.rows.files.raw_record import RawRecord
from steps.common.rows.read_rows import read_raw
from steps.common.rows.row import RowPlace
from steps.common.runtime.progress import Progress

if TYPE_CHECKING:
    import pyarrow

PIECE_BYTES = 128 << 20  # of records in a file; the processes are started anew for each
# Of the first file. One process labels so few records, and those that follow inherit the words that it has tokenised.
FIRST_PIECE_BYTES = 1 << 20
BATCH_ROWS = 1024


@dataclass
class SourceFiles:
    """The files of all sources, of training rows and then of held-out rows, in the order in which they are read."""

    train: list[DataSource]
    validation: list[DataSource]
    paths: list[str] = field(default_factory=list)  # by the number of a file

    def records(self) -> Iterator[tuple[int, int, RawRecord]]:
        """Read all records, each with the number of its source and of its file.

        Raises:
            UserError: a file has changed since the run was planned, or cannot be read.
        """
        for number, source in enumerate([*self.train, *self.validation]):
            for file in source.files:
                path = as_planned(file)
                self.paths.append(str(path))
                for record in read_raw(path):
                    yield number, len(self.paths) - 1, record

    def progress(self) -> Progress:
        """Return a progress that counts their records."""
        names = [Path(file.path).name for source in [*self.train, *self.validation] for file in source.files]
        return Progress(0, f"rows of {names[0]}" if len(names) == 1 else f"rows of {len(names)} files")

    def place(self, file: int, line: int) -> RowPlace:
        """Return the place of a record."""
        return RowPlace(self.paths[file], line)


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
    """Write the records in pieces, and yield each piece when it is written."""
    columns: dict[str, list[Any]] = {name: [] for name in raw_schema().names}
    size = pieces = 0
    for number, (source, file, record) in enumerate(records):
        values = (source, file, record.line, number, record.payload, record.reason)
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
        size += len(record.payload)
        if size >= (PIECE_BYTES if pieces else min(FIRST_PIECE_BYTES, PIECE_BYTES)):
            yield _write(columns, folder / f"raw-{pieces:05}.arrow")
            columns = {name: [] for name in columns}
            size, pieces = 0, pieces + 1
    if columns["number"]:
        yield _write(columns, folder / f"raw-{pieces:05}.arrow")


def _write(columns: dict[str, list[Any]], path: Path) -> Path:
    import pyarrow

    table = pyarrow.table(columns, schema=raw_schema())
    with pyarrow.OSFile(str(path), "wb") as out, pyarrow.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, BATCH_ROWS)
    return path
