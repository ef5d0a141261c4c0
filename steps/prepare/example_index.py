"""What is known of each example without its tokens: numbers, by which rows are compared, chosen and counted."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy

from steps.common.rows.row import BadRow
from steps.prepare.labelled_table import HASHES, TURNS
from steps.prepare.map_rows import LabelledPiece
from steps.prepare.raw_pieces import SourceFiles
from steps.prepare.split import RowKeys

if TYPE_CHECKING:
    import pyarrow

SHOWN = 20  # bad rows
NUMBERS = ("number", "source", "tie", "labelled", *TURNS, *HASHES)


class BadRows:
    """The rows that cannot be used, in a file as they are found; behind them, those that were left out as too long.

    Only the first are in memory.
    """

    def __init__(self, path: Path) -> None:
        """Begin an empty file."""
        self.first: list[BadRow] = []
        self.count = self.too_long = 0
        self._path, self._long_path = path, path.with_name(path.name + ".long")
        self._files = ExitStack()
        self._bad, self._long = (self._open(one) for one in (self._path, self._long_path))

    def _open(self, path: Path) -> IO[str]:
        # A name of a file need not be valid UTF-8.
        return self._files.enter_context(path.open("w", encoding="utf-8", errors="backslashreplace"))

    def add(self, row: BadRow, *, too_long: bool) -> None:
        """Add a row."""
        print(row, file=self._long if too_long else self._bad)
        if too_long:
            self.too_long += 1
            return
        self.count += 1
        if self.count <= SHOWN:
            self.first.append(row)

    def close(self) -> None:
        """Complete the file."""
        self._files.close()
        with self._path.open("ab") as whole, self._long_path.open("rb") as long:
            shutil.copyfileobj(long, whole)
        self._long_path.unlink()


@dataclass
class ExampleIndex:
    """Some 80 bytes for each example; all arrays have one item per example, bad rows included."""

    columns: dict[str, numpy.ndarray]
    tokens: numpy.ndarray
    good: numpy.ndarray  # whether the row can be used
    bad: BadRows
    ignored: Counter[str]  # rows by the name of what has no effect in them
    teaches_to_stop: bool
    pieces: list[LabelledPiece]  # with the examples, in their order

    def rows(self, sources: range) -> numpy.ndarray:
        """Return the index of the first example of each usable row of these sources."""
        number, source = self.columns["number"], self.columns["source"]
        new = numpy.ones(len(number), bool)
        new[1:] = number[1:] != number[:-1]
        return numpy.flatnonzero(new & self.good & (source >= sources.start) & (source < sources.stop))

    def keys(self, rows: numpy.ndarray) -> RowKeys:
        """Return what rows are compared by, from the indices of their first examples.

        Of duplicates, the one of the earliest source is kept, and within it the one whose tokens come first in an order that
        does not depend on the order of the rows.
        """
        halves = [self.columns[name][rows] for name in HASHES]
        order = numpy.lexsort((self.columns["tie"][rows], self.columns["source"][rows]))
        ranks = numpy.empty(len(rows), numpy.int64)
        ranks[order] = numpy.arange(len(rows))
        return RowKeys(numpy.column_stack(halves[:2]), numpy.column_stack(halves[2:]), ranks)

    def examples(self, rows: numpy.ndarray, times: numpy.ndarray | None = None) -> numpy.ndarray:
        """Return the indices of all examples of rows, in increasing order.

        Args:
            rows: indices of their first examples, in increasing order.
            times: how often each of the rows is repeated; None: once.
        """
        number = self.columns["number"]
        ends = numpy.searchsorted(number, number[rows], side="right")
        counts = ends - rows
        whole = numpy.repeat(rows - numpy.cumsum(counts) + counts, counts) + numpy.arange(int(counts.sum()))
        return whole if times is None else numpy.repeat(whole, numpy.repeat(times, counts))


def read_index(pieces: Iterable[LabelledPiece], files: SourceFiles, bad_rows: Path) -> ExampleIndex:
    """Read the numbers of all examples, piece by piece as they are labelled.

    Args:
        pieces: with their examples.
        files: that the records are from.
        bad_rows: file to write the rows that cannot be used to, one a line.
    """
    parts: dict[str, list[numpy.ndarray]] = {name: [] for name in (*NUMBERS, "tokens", "good")}
    read: list[LabelledPiece] = []
    ignored: Counter[str] = Counter()
    teaches_to_stop, last = False, -1
    with closing(BadRows(bad_rows)) as bad:
        for piece in pieces:
            read.append(piece)
            for batch in batches(piece):
                for name in NUMBERS:
                    parts[name].append(numpy.array(batch.column(name)))
                lengths = [numpy.diff(batch.column(name).offsets.to_numpy()) for name in ("input_ids", "rejected_ids")]
                parts["tokens"].append(lengths[0] + lengths[1])
                parts["good"].append(numpy.array(batch.column("reason").is_null()))
                teaches_to_stop |= bool(numpy.array(batch.column("stops")).any())
                _add_bad(bad, batch, files)
                _add_ignored(ignored, batch, last)
                last = batch.column("number")[-1].as_py() if batch.num_rows else last
    whole = {name: numpy.concatenate(part or [numpy.zeros(0, numpy.int64)]) for name, part in parts.items()}
    tokens, good = whole.pop("tokens"), whole.pop("good").astype(bool)
    return ExampleIndex(whole, tokens, good, bad, ignored, teaches_to_stop, read)


def batches(piece: LabelledPiece) -> Iterator["pyarrow.RecordBatch"]:
    """Read the examples of a piece, mapped into memory one file at a time."""
    import pyarrow

    for path in piece.examples:
        with pyarrow.memory_map(str(path)) as mapped:
            yield from pyarrow.ipc.open_stream(mapped)


def _add_bad(bad: BadRows, batch: "pyarrow.RecordBatch", files: SourceFiles) -> None:
    reasons = batch.column("reason")
    if reasons.null_count == len(reasons):
        return
    columns = (batch.column(name).to_pylist() for name in ("reason", "too_long", "file", "line"))
    for reason, too_long, file, line in zip(*columns, strict=True):
        if reason is not None:
            bad.add(BadRow(files.place(file, line), reason), too_long=too_long)


def _add_ignored(ignored: Counter[str], batch: "pyarrow.RecordBatch", last: int) -> None:
    """Count what is ignored in the rows of a batch, but for the last row of the batch before: it may go on in this one."""
    if not len(batch.column("ignored").flatten()):
        return
    rows = dict(zip(batch.column("number").to_pylist(), batch.column("ignored").to_pylist(), strict=True))
    rows.pop(last, None)
    ignored.update(name for names in rows.values() for name in names)
