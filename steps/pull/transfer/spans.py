"""Sets of bytes, as sorted half-open intervals."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Span = tuple[int, int]  # [start, end), in bytes


class Spans:
    """A set of a file's bytes: sorted intervals that neither overlap nor touch."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        """Add these intervals, which may overlap and be in any order."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in spans:
            self.add(start, end)

    def __iter__(self) -> Iterator[Span]:
        return iter(zip(self._starts, self._ends, strict=True))

    @property
    def total(self) -> int:
        """Number of bytes in the set."""
        return sum(self._ends) - sum(self._starts)

    @property
    def prefix(self) -> int:
        """Number of bytes from the start of the file to the first gap."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    @property
    def end(self) -> int:
        """Offset after the last byte; 0 for an empty set."""
        return self._ends[-1] if self._ends else 0

    def add(self, start: int, end: int) -> None:
        """Add an interval."""
        if end <= start:
            return
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def missing(self, size: int) -> list[Span]:
        """Return the gaps in the first `size` bytes."""
        gaps, at = [], 0
        for start, end in self:
            if start > at:
                gaps.append((at, min(start, size)))
            at = end
        if at < size:
            gaps.append((at, size))
        return [(start, end) for start, end in gaps if start < end]
