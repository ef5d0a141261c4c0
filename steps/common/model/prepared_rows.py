"""The rows that `prepare` writes: one Arrow file a side, which is mapped into memory, and from which rows are read when needed.

| column           | what                                                                       |
|------------------|----------------------------------------------------------------------------|
| `input_ids`      | the tokens                                                                 |
| `learnt`         | the labelled tokens, as begin and end of each span: [begin, end, begin, …] |
| `rejected_ids`   | of a preference pair, the tokens of the rejected side; else empty          |
| `rejected_learnt`| likewise, its labelled tokens                                              |
| `tie`            | a number made of the tokens, see `steps.common.model.packing`              |
| `conversation`   | of a held-out chat, the conversation as JSON; else empty                   |

Nothing is null: what Arrow writes for nulls depends on how the rows came to it.

Any tool that reads Arrow's streaming format reads the file, such as `datasets.Dataset.from_file`.
"""

import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from steps.common.model.packs import IGNORE_INDEX, MeasuredRows, TokenRow
from steps.common.model.pair_packs import TokenPair
from steps.common.rows.conversation import Conversation
from steps.common.runtime.errors import UserError

if TYPE_CHECKING:
    import numpy
    import pyarrow

TRAIN, VALIDATION = "train", "validation"  # folders below that of the prepared rows
ROWS_FILE = "rows.arrow"
BATCH_ROWS = 256  # in a batch of the file
RELEASED_BYTES = 64 << 20  # of rows that are read before their pages are given back
INT32_BYTES = 4

Read = TypeVar("Read", TokenRow, TokenPair)


def row_schema() -> "pyarrow.Schema":
    """Return the columns of the file."""
    import pyarrow

    numbers = pyarrow.list_(pyarrow.int32())
    lists = ("input_ids", "learnt", "rejected_ids", "rejected_learnt")
    return pyarrow.schema(
        [*((name, numbers) for name in lists), ("tie", pyarrow.uint64()), ("conversation", pyarrow.string())]
    )


def write_rows(folder: Path, tables: Iterable["pyarrow.Table"]) -> None:
    """Write tables with the columns of `row_schema` one after the other. The bytes do not depend on where one table ends.

    Args:
        folder: of this side of the rows; it is made.
        tables: each of a size that fits in memory.
    """
    import pyarrow

    folder.mkdir()
    schema, waiting = row_schema(), row_schema().empty_table()
    with pyarrow.OSFile(str(folder / ROWS_FILE), "wb") as out, pyarrow.ipc.new_stream(out, schema) as writer:
        for table in tables:
            waiting = pyarrow.concat_tables([waiting, table.select(schema.names)])
            while waiting.num_rows >= BATCH_ROWS:
                writer.write_table(_copied(waiting.slice(0, BATCH_ROWS)))
                waiting = waiting.slice(BATCH_ROWS)
            waiting = _copied(waiting)
        if waiting.num_rows:
            writer.write_table(waiting)


def _copied(table: "pyarrow.Table") -> "pyarrow.Table":
    """Return a table in one piece. Of a slice, Arrow would write values that are in none of its lists."""
    import pyarrow

    return table.combine_chunks().take(pyarrow.array(range(table.num_rows), pyarrow.int64())).combine_chunks()


def table_of(rows: Sequence[TokenRow]) -> "pyarrow.Table":
    """Return rows as a table for `write_rows`."""
    import pyarrow

    columns: dict[str, list[Any]] = {
        "input_ids": [row.input_ids for row in rows],
        "learnt": [spans_of(row.labels) for row in rows],
        "rejected_ids": [[] for _ in rows],
        "rejected_learnt": [[] for _ in rows],
        "tie": [number for number, _ in enumerate(rows)],
        "conversation": [row.conversation.to_json() if row.conversation else "" for row in rows],
    }
    return pyarrow.table(columns, schema=row_schema())


def spans_of(labels: Sequence[int]) -> list[int]:
    """Return begin and end of each span of labels that are not ignored: [begin, end, begin, …]."""
    import numpy

    labelled = numpy.zeros(len(labels) + 2, numpy.int8)
    labelled[1:-1] = numpy.asarray(labels, numpy.int64) != IGNORE_INDEX
    spans: list[int] = numpy.flatnonzero(numpy.diff(labelled)).tolist()
    return spans


class RowFile:
    """A file of rows, mapped into memory. The pages of rows that have been read are given back now and then."""

    def __init__(self, path: Path) -> None:
        """Map the file."""
        import numpy
        import pyarrow

        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._batches = list(pyarrow.ipc.open_stream(pyarrow.py_buffer(self._map)))
        self._starts = numpy.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self._unreleased = 0  # bytes that were read since the last release

    def lengths(self, column: str) -> "numpy.ndarray":
        """Return the length of each list of a column; shape (rows)."""
        import numpy

        return self._of_all([numpy.diff(batch.column(column).offsets.to_numpy()) for batch in self._batches])

    def ties(self) -> "numpy.ndarray":
        """Return the tie-breaker of each row; shape (rows)."""
        return self._of_all([batch.column("tie").to_numpy() for batch in self._batches])

    def _of_all(self, parts: list["numpy.ndarray"]) -> "numpy.ndarray":
        import numpy

        whole = numpy.concatenate(parts or [numpy.zeros(0, numpy.int64)])
        self._release()
        return whole

    def row(self, number: int, ids: str, learnt: str) -> TokenRow:
        """Read the row with this number, from its columns of tokens and of labelled spans."""
        at = int(self._starts.searchsorted(number, side="right")) - 1
        batch, place = self._batches[at], number - int(self._starts[at])
        tokens = _listed(batch.column(ids), place)
        labels = [IGNORE_INDEX] * len(tokens)
        spans = _listed(batch.column(learnt), place)
        for begin, end in zip(spans[::2], spans[1::2], strict=True):
            labels[begin:end] = tokens[begin:end]
        conversation = batch.column("conversation")[place].as_py()
        self._unreleased += INT32_BYTES * len(tokens)
        if self._unreleased > RELEASED_BYTES:
            self._release()
        return TokenRow(tokens, labels, Conversation.from_json(conversation) if conversation else None)

    def _release(self) -> None:
        """Give the mapped pages back. They stay in the page cache as long as nothing else needs the memory."""
        self._map.madvise(mmap.MADV_DONTNEED)
        self._unreleased = 0


def _listed(column: "pyarrow.ListArray", place: int) -> list[int]:
    begin, end = column.offsets.to_numpy()[place : place + 2]
    found: list[int] = column.values.to_numpy()[begin:end].tolist()
    return found


class PreparedRows(MeasuredRows[Read], Generic[Read]):
    """The rows of a side in the order in which they are stored, or some of them. Only their lengths are in memory."""

    columns: tuple[tuple[str, str], ...]  # of tokens and of labelled spans, for each side that is read

    def __init__(
        self, file: RowFile, lengths: "numpy.ndarray", ties: "numpy.ndarray", numbers: "numpy.ndarray"
    ) -> None:
        """Refer to rows of a file.

        Args:
            file: of the rows.
            lengths: of each row, in tokens; shape (rows).
            ties: of each row; shape (rows).
            numbers: of each row in the file; shape (rows).
        """
        self._file, self.lengths, self.ties, self._numbers = file, lengths, ties, numbers

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Refer to all rows of one side.

        Args:
            folder: `train` or `validation` below the folder of the prepared rows.

        Raises:
            UserError: an earlier release has prepared them.
        """
        import numpy

        if not (folder / ROWS_FILE).is_file() and folder.parent.is_dir():
            raise UserError(f"{folder.parent}: was prepared by an earlier release; start a new run")
        file = RowFile(folder / ROWS_FILE)
        lengths = numpy.sum([file.lengths(ids) for ids, _ in cls.columns], axis=0)
        return cls(file, lengths, file.ties(), numpy.arange(len(lengths)))

    def select(self, places: Sequence[int]) -> Self:
        """Return the rows at these places, in this order."""
        import numpy

        at = numpy.asarray(places, numpy.int64)
        return type(self)(self._file, self.lengths[at], self.ties[at], self._numbers[at])

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: int) -> Read:  # type: ignore[override]
        """Read one row."""
        number = int(self._numbers[place])
        return self._read(number, [self._file.row(number, *columns) for columns in self.columns])

    def _read(self, number: int, sides: list[TokenRow]) -> Read:
        raise NotImplementedError


CHOSEN, REJECTED = ("input_ids", "learnt"), ("rejected_ids", "rejected_learnt")


class PreparedTexts(PreparedRows[TokenRow]):
    """Chats and texts; of preference pairs, the chosen sides."""

    columns = (CHOSEN,)

    def _read(self, number: int, sides: list[TokenRow]) -> TokenRow:
        return sides[0]


class PreparedRejected(PreparedTexts):
    """The rejected sides of preference pairs."""

    columns = (REJECTED,)


class PreparedPairs(PreparedRows[TokenPair]):
    """Preference pairs."""

    columns = (CHOSEN, REJECTED)

    def _read(self, number: int, sides: list[TokenRow]) -> TokenPair:
        return TokenPair(number, *sides)
