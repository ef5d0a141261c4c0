"""Turns a table of records into a table of examples: parsed, labelled and hashed. Processes do it, each with its own batches.

A record that cannot be used becomes a row with a reason and no tokens.
"""

import hashlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy

from steps.common.model.packs import IGNORE_INDEX
from steps.common.model.prepared_rows import row_schema
from steps.common.rows.files.raw_record import RawRecord
from steps.common.rows.read_rows import parse
from steps.common.rows.row import BadRow, Row
from steps.common.rows.row_kinds import check_kind
from steps.prepare.label_pairs import labelled_examples_batch
from steps.prepare.labels import Example, Labeller, TooLongError, teaches_to_stop
from steps.prepare.learnt_turns import LabelError
from steps.prepare.raw_pieces import SourceFiles
from steps.prepare.split import HASH_BYTES, row_hashes

if TYPE_CHECKING:
    import pyarrow

HASHES = ("question_high", "question_low", "content_high", "content_low")
TURNS = ("turns_learnt", "turns_read", "turns_cut")
TIE_BYTES = 8


def labelled_schema() -> "pyarrow.Schema":
    """Return the columns of a table of examples: those of prepared rows, and what they are chosen and counted by."""
    import pyarrow

    numbers = {"number": pyarrow.int64(), "source": pyarrow.int32(), "file": pyarrow.int32(), "line": pyarrow.int64()}
    hashes = dict.fromkeys(HASHES, pyarrow.uint64())
    counts = dict.fromkeys(("messages", "labelled", *TURNS), pyarrow.int32())
    others = {
        "stops": pyarrow.bool_(),
        "reason": pyarrow.string(),
        "too_long": pyarrow.bool_(),
        "ignored": pyarrow.list_(pyarrow.string()),
    }
    return pyarrow.schema([*row_schema(), *{**numbers, **hashes, **counts, **others}.items()])


@dataclass(frozen=True)
class TableLabelling:
    """What a process needs to know to label records."""

    labeller: Labeller
    files: SourceFiles
    objective: str
    seed: int

    def labelled(self, records: "pyarrow.Table") -> "pyarrow.Table":
        """Return the examples of some records, in their order, with the columns of `labelled_schema`.

        Raises:
            UserError: a row is not of the kind that the objective needs.
        """
        columns = [records.column(name).to_pylist() for name in ("line", "payload", "reason", "file")]
        bad: dict[int, str] = {}
        too_long: set[int] = set()
        rows: dict[int, Row] = {}
        for at, (line, payload, reason, file) in enumerate(zip(*columns, strict=True)):
            found = parse(self.files.place(file, line), RawRecord(line, payload, reason))
            if isinstance(found, BadRow):
                bad[at] = found.reason
                continue
            check_kind(*found, self.objective)
            rows[at] = found[1]
        made: list[tuple[int, Example]] = []
        for at, examples in zip(rows, labelled_examples_batch(list(rows.values()), self.labeller), strict=True):
            if isinstance(examples, LabelError):
                bad[at] = str(examples)
                # Such a row is left out, and not counted as a bad one.
                if self.labeller.too_long == "skip" and isinstance(examples, TooLongError):
                    too_long.add(at)
            else:
                made += ((at, example) for example in examples)
        return self._table(records, rows, made, bad, too_long)

    def _table(
        self,
        records: "pyarrow.Table",
        rows: dict[int, Row],
        made: list[tuple[int, Example]],
        bad: dict[int, str],
        too_long: set[int],
    ) -> "pyarrow.Table":
        import pyarrow

        entries: list[tuple[int, Example | None]] = [*made, *((at, None) for at in bad)]
        entries.sort(key=lambda entry: entry[0])  # stable: a row's examples stay in their order
        places = [at for at, _ in entries]
        examples = [example for _, example in entries]
        chosen = _Tokens([(one.input_ids, one.labels) if one else ([], []) for one in examples])
        rejected = _Tokens(
            [(one.rejected.input_ids, one.rejected.labels) if one and one.rejected else ([], []) for one in examples]
        )
        hashes = {at: row_hashes(row, self.seed) for at, row in rows.items() if at not in bad}
        nothing = (bytes(HASH_BYTES), bytes(HASH_BYTES))
        halves = numpy.frombuffer(b"".join(half for at in places for half in hashes.get(at, nothing)), ">u8")
        by_hash = halves.astype(numpy.uint64).reshape(-1, len(HASHES))
        conversations = [one.conversation if one else None for one in examples]
        columns: dict[str, Any] = {
            "input_ids": chosen.ids(),
            "learnt": chosen.spans(),
            "rejected_ids": rejected.ids(),
            "rejected_learnt": rejected.spans(),
            "tie": numpy.array(
                [one ^ other for one, other in zip(chosen.ties(), rejected.ties(), strict=True)], numpy.uint64
            ),
            "conversation": pyarrow.repeat("", len(entries)),
            **{name: by_hash[:, number] for number, name in enumerate(HASHES)},
            "messages": [len(one.messages) if one else 0 for one in conversations],
            **{name: [getattr(one, name) if one else 0 for one in examples] for name in TURNS},
            "labelled": chosen.labelled() + rejected.labelled(),
            "stops": [one is not None and teaches_to_stop(one, self.labeller.stops) for one in examples],
            "reason": [bad.get(at) for at in places],
            "too_long": [at in too_long for at in places],
            "ignored": [list(rows[at].ignored) if at in rows else [] for at in places],
        }
        taken = records.select(["number", "source", "file", "line"]).take(pyarrow.array(places, pyarrow.int64()))
        columns |= {name: taken.column(name).combine_chunks() for name in taken.column_names}
        schema = labelled_schema()
        return pyarrow.table({name: columns[name] for name in schema.names}, schema=schema)


class _Tokens:
    """The tokens of many examples, one after the other in one array."""

    def __init__(self, sides: list[tuple[list[int], list[int]]]) -> None:
        """Join the tokens and the labels of each example."""
        self._starts = numpy.cumsum([0, *(len(ids) for ids, _ in sides)])
        total = int(self._starts[-1])
        self._ids = numpy.fromiter(itertools.chain.from_iterable(ids for ids, _ in sides), numpy.int32, total)
        labels = itertools.chain.from_iterable(labels for _, labels in sides)
        self._labelled = numpy.fromiter(labels, numpy.int32, total) != IGNORE_INDEX
        begins = numpy.zeros(total + 1, bool)
        begins[self._starts] = True  # a span does not go on in the next example
        after, before = numpy.append(self._labelled, False), numpy.append(False, self._labelled)
        first = numpy.flatnonzero(after[:total] & (begins[:total] | ~before[:total]))
        behind = numpy.flatnonzero(before[1:] & (begins[1:] | ~after[1:])) + 1
        self._span_starts = numpy.searchsorted(first, self._starts)
        example_of = numpy.searchsorted(self._starts, first, side="right") - 1
        self._spans = numpy.column_stack([first, behind]) - self._starts[example_of][:, None]

    def ids(self) -> "pyarrow.ListArray":
        """Return the tokens of each example."""
        return _lists(self._starts, self._ids)

    def spans(self) -> "pyarrow.ListArray":
        """Return begin and end of each labelled span of each example."""
        return _lists(2 * self._span_starts, self._spans.ravel())

    def labelled(self) -> numpy.ndarray:
        """Return the number of labelled tokens of each example; shape (examples)."""
        return _sums(self._labelled, self._starts)

    def ties(self) -> list[int]:
        """Return a number for each example that its tokens and labelled spans decide."""
        ids, spans = self._ids.tobytes(), self._spans.astype(numpy.int32).tobytes()
        token, span = self._ids.itemsize, 2 * self._ids.itemsize
        bounds = zip(
            itertools.pairwise(self._starts.tolist()), itertools.pairwise(self._span_starts.tolist()), strict=True
        )
        return [
            int.from_bytes(
                hashlib.blake2b(
                    ids[token * begin : token * end] + spans[span * first : span * last], digest_size=TIE_BYTES
                ).digest()
            )
            for (begin, end), (first, last) in bounds
        ]


def _sums(flags: numpy.ndarray, starts: numpy.ndarray) -> numpy.ndarray:
    up_to = numpy.concatenate([[0], numpy.cumsum(flags)])
    sums: numpy.ndarray = up_to[starts[1:]] - up_to[starts[:-1]]
    return sums


def _lists(starts: numpy.ndarray, values: numpy.ndarray) -> "pyarrow.ListArray":
    import pyarrow

    return pyarrow.ListArray.from_arrays(
        pyarrow.array(starts.astype(numpy.int32)), pyarrow.array(values.astype(numpy.int32))
    )
