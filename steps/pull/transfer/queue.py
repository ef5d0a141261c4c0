"""The queue of spans to fetch, limited to the number of connections that the pace allows."""

import threading
import time
from collections import deque
from dataclasses import dataclass

from steps.pull.transfer.pace import Pace
from steps.pull.transfer.partial_file import PartialFile

TICK_SECONDS = 0.1


@dataclass
class QueuedSpan:
    """A span to fetch."""

    part: PartialFile
    start: int
    end: int  # 0: the end of the file, whose size is unknown
    generation: int
    tries: int = 0  # failed attempts since the last byte
    not_before: float = 0.0


class Queue:
    """Hands out spans in order, to as many connections as the pace allows."""

    def __init__(self, pace: Pace, span_bytes: int) -> None:
        """Start empty.

        Args:
            pace: limits the number of connections.
            span_bytes: length of a span.
        """
        self._pace, self._span_bytes = pace, span_bytes
        self._spans: deque[QueuedSpan] = deque()
        self.changed = threading.Condition()
        self.active = 0  # connections that are fetching
        self.closed = False

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, part: PartialFile) -> None:
        """Add the missing spans of a file."""
        missing = [(0, part.file.bytes)] if part.without_ranges else part.missing
        with self.changed:
            for start, end in missing:
                at = start
                while at < end and not part.without_ranges:
                    until = min(end, (at // self._span_bytes + 1) * self._span_bytes)
                    self._spans.append(QueuedSpan(part, at, until, part.generation))
                    at = until
                if part.without_ranges or end == 0:
                    self._spans.append(QueuedSpan(part, start, end, part.generation))
            self.changed.notify_all()

    def take(self) -> QueuedSpan | None:
        """Wait for a span and a free connection, and return the span; None once the queue is closed."""
        with self.changed:
            while not self.closed:
                now = time.monotonic()
                if self.active < self._pace.limit and not self._pace.paused:
                    for number, span in enumerate(self._spans):
                        if span.not_before <= now:
                            del self._spans[number]
                            self.active += 1
                            return span
                self.changed.wait(TICK_SECONDS)
        return None

    def release(self) -> None:
        """Free a connection."""
        with self.changed:
            self.active -= 1
            self.changed.notify()

    def put_back(self, span: QueuedSpan, wait: float) -> None:
        """Queue the rest of a span again, with a delay in seconds, unless its file was restarted meanwhile."""
        span.not_before = time.monotonic() + wait
        with self.changed:
            if span.generation == span.part.generation:
                self._spans.appendleft(span)

    def close(self) -> None:
        """Close the queue: `take` returns None from now on."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
