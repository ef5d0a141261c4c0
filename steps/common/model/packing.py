"""Which rows share a pack, found from their lengths alone: best-fit decreasing, in n log n.

Rows are taken by length, the longest first, and each goes into the fullest pack with room for it. Packs with equal room are
taken in the order in which they were opened. Rows of one length are taken by their tie-breakers, which come from their
content, so the packs do not depend on the order of the rows.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True)
class PackedNumbers(Sequence["numpy.ndarray"]):
    """The row numbers of each pack. A million rows take a few megabytes: there is no object per row or pack."""

    numbers: "numpy.ndarray"  # of all rows, those of a pack together, in the order in which they were put into it
    starts: "numpy.ndarray"  # of each pack within `numbers`, and their count; shape (packs + 1)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, pack: int) -> "numpy.ndarray":  # type: ignore[override]
        """Return the row numbers of one pack."""
        if not 0 <= pack < len(self):
            raise IndexError(pack)
        return self.numbers[self.starts[pack] : self.starts[pack + 1]]

    def sums(self, lengths: "numpy.ndarray") -> "numpy.ndarray":
        """Return the tokens of each pack, from those of each row; shape (packs)."""
        import numpy

        if not len(self):
            return numpy.zeros(0, numpy.int64)
        sums: numpy.ndarray = numpy.add.reduceat(lengths[self.numbers].astype(numpy.int64), self.starts[:-1])
        return sums


def pack_lengths(lengths: "numpy.ndarray", ties: "numpy.ndarray", tokens: int) -> PackedNumbers:
    """Put rows into packs of at most `tokens`; a longer row gets a pack of its own.

    Args:
        lengths: of the rows, in tokens; at least 1; shape (rows).
        ties: numbers by which rows of the same length are ordered; shape (rows).
        tokens: of the largest pack.
    """
    import numpy

    order = numpy.lexsort((ties, -lengths.astype(numpy.int64)))
    pack_of = numpy.empty(len(order), numpy.int64)
    packs = 0
    for place, pack in enumerate(_best_fits(lengths[order], tokens)):
        pack_of[place] = pack
        packs = max(packs, pack + 1)
    by_pack = numpy.argsort(pack_of, kind="stable")
    starts = numpy.zeros(packs + 1, numpy.int64)
    numpy.cumsum(numpy.bincount(pack_of, minlength=packs), out=starts[1:])
    return PackedNumbers(order[by_pack], starts)


def _best_fits(decreasing: "numpy.ndarray", tokens: int) -> Iterator[int]:
    """Yield the pack of each row, from the rows' lengths in decreasing order."""
    rooms: list[int] = []  # in increasing order: what room there is in any pack
    packs_with: dict[int, list[int]] = {}  # by room: a heap of the packs
    packs = 0
    for length in decreasing.tolist():
        at = bisect_left(rooms, length)
        if at == len(rooms):
            pack, left = packs, tokens - length
            packs += 1
        else:
            room = rooms[at]
            waiting = packs_with[room]
            pack, left = heapq.heappop(waiting), room - length
            if not waiting:
                del rooms[at], packs_with[room]
        if left > 0:
            if left in packs_with:
                heapq.heappush(packs_with[left], pack)
            else:
                insort(rooms, left)
                packs_with[left] = [pack]
        yield pack
