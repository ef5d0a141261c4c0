"""Fetches files in many spans at once, across and within files, and hashes each file as it arrives."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from steps.common.machine.devices import cores
from steps.common.runtime.errors import InterruptedReadError, UnreachableError, UserError
from steps.common.runtime.progress import say
from steps.common.weights.sources.listing import SourceFile
from steps.pull.reading.read_errors import NoRangesError, ThrottledError
from steps.pull.transfer.pace import Pace
from steps.pull.transfer.partial_file import NOTED_AT_ONCE, NOTED_SECONDS, PartialFile
from steps.pull.transfer.queue import TICK_SECONDS, Queue, QueuedSpan
from steps.pull.transfer.totals import Totals

# Several spans per connection, so that all connections finish together; not so small that requests dominate.
SMALLEST_SPAN, LARGEST_SPAN, SPANS_A_CONNECTION = 4 << 20, 32 << 20, 4
ATTEMPTS = 6  # at a span, without a byte in between
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0
LONGEST_THROTTLING_SECONDS = 1800.0  # without a single byte
SYNC_SECONDS, SYNC_BYTES = 5.0, 64 << 20  # how often to flush: the most that losing the machine costs
IDLE_SECONDS = 0.005
# For threads to end. One that waits for bytes may take longer, but no longer touches a file.
END_SECONDS = 2.0


class Reader(Protocol):
    """A source of bytes."""

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[bytes]:
        """Yield the blocks of a span; `end` 0 means the end of the file."""


class Transfer:
    """One transfer of files into a folder."""

    def __init__(
        self, files: list[SourceFile], folder: Path, reader: Reader, pace: Pace, on_progress: Callable[[int], None]
    ) -> None:
        """Go on with what an earlier attempt has left in the folder.

        Args:
            files: what to fetch.
            folder: where to.
            reader: where from.
            pace: controls the number of connections.
            on_progress: called with the bytes that this and earlier attempts have fetched.
        """
        self.totals, self.pace = Totals(), pace
        self.parts = [PartialFile(file, folder) for file in files]
        self.sha256: dict[str, str] = {}  # of the finished files, by name
        self._reader, self._on_progress = reader, on_progress
        self._failure: BaseException | None = None
        self._last_byte = time.monotonic()
        whole = sum(file.bytes for file in files)
        wanted = whole // (pace.most * SPANS_A_CONNECTION)
        self._queue = Queue(pace, min(LARGEST_SPAN, max(SMALLEST_SPAN, wanted)))
        # Large files first and in order, so that hashing keeps up; then the small ones, which take one request each.
        for part in sorted(self.parts, key=lambda one: -one.file.bytes):
            self._queue.add(part)

    def run(self) -> None:
        """Fetch everything.

        Raises:
            UserError: the source refuses, or its content twice did not match its hash; what was fetched is kept.
            UnreachableError: the source did not answer, even when asked again; what was fetched is kept.
        """
        others = [threading.Thread(target=self._hash, args=(number,), daemon=True) for number in range(_hashers())]
        others.append(threading.Thread(target=self._sync, daemon=True))
        workers: list[threading.Thread] = []
        try:
            for thread in others:
                thread.start()
            while self._failure is None and len(self.sha256) < len(self.parts):
                wanted = min(self.pace.limit, self._queue.active + len(self._queue))
                while len(workers) < wanted:
                    workers.append(threading.Thread(target=self._fetch_spans, daemon=True))
                    workers[-1].start()
                self._on_progress(sum(part.received for part in self.parts))
                self.pace.measure(self.totals.fetched, self._queue.active)
                with self._queue.changed:
                    self._queue.changed.wait(TICK_SECONDS)
            if self._failure is not None:
                raise self._failure
            self._on_progress(sum(part.received for part in self.parts))
        finally:
            self._queue.close()
            self._end([*others, *workers])

    def _end(self, threads: list[threading.Thread]) -> None:
        """Wait for the threads to end and close the files, unless a thread is in a call that does not return."""
        until = time.monotonic() + END_SECONDS
        for thread in threads:
            if thread.ident:
                thread.join(max(0.0, until - time.monotonic()))
        if not any(thread.is_alive() for thread in threads):
            for part in self.parts:
                part.close()

    def _fetch_spans(self) -> None:
        while span := self._queue.take():
            try:
                self._fetch(span)
            except BaseException as error:
                self._fail(error)
            finally:
                self._queue.release()

    def _fetch(self, span: QueuedSpan) -> None:
        part, first = span.part, span.start
        try:
            ended = self._receive(span)
        except InterruptedReadError as error:
            self._retry(span, str(error), gained=span.start > first and not part.without_ranges)
        except ThrottledError as error:
            self._wait_for_source(span, error)
        except NoRangesError:
            self._fetch_without_ranges(span)
        else:
            if ended and span.end == 0:
                part.set_size(span.start)

    def _receive(self, span: QueuedSpan) -> bool:
        """Read and write a span, and advance `span.start` past what is recorded; return whether the end was reached."""
        part, at, noted, noted_at = span.part, span.start, span.start, time.perf_counter()
        blocks = iter(self._reader.read(part.file, span.start, span.end))
        try:
            while True:
                asked = time.perf_counter()
                block = next(blocks, b"")
                came = time.perf_counter()
                if not block:
                    break
                if self._queue.closed or span.generation != part.generation:
                    return False
                part.write(block, at)
                at += len(block)
                self.totals.add(len(block), came - asked, time.perf_counter() - came)
                self._last_byte = time.monotonic()
                if at - noted >= NOTED_AT_ONCE or came - noted_at > NOTED_SECONDS:
                    part.record(noted, at, span.generation)
                    noted, noted_at = at, came
        finally:
            part.record(noted, at, span.generation)
            span.start = at
        if span.end and at < span.end:
            raise InterruptedReadError("the connection ended early")
        return True

    def _retry(self, span: QueuedSpan, reason: str, *, gained: bool) -> None:
        if span.part.without_ranges:
            span.start = 0
        span.tries = 0 if gained else span.tries + 1
        if span.tries >= ATTEMPTS:
            raise UnreachableError(
                f"{span.part.file.url}: failed in {ATTEMPTS} attempts: {reason}; what was fetched is kept, run it again"
            )
        wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (span.tries - 1)) if span.tries else 0.0
        if span.tries:
            say(f"{span.part.file.name}: {reason}; trying again in {wait:g} s (attempt {span.tries + 1} of {ATTEMPTS})")
        self._queue.put_back(span, wait)

    def _wait_for_source(self, span: QueuedSpan, error: ThrottledError) -> None:
        if time.monotonic() - self._last_byte > LONGEST_THROTTLING_SECONDS:
            raise UnreachableError(
                f"{span.part.file.url}: {error} for {LONGEST_THROTTLING_SECONDS / 60:.0f} min; what was fetched is kept, "
                "run it later"
            )
        first = not self.pace.paused
        wait = self.pace.throttled(error.seconds)
        if first:
            say(f"{error}: reduced to {self.pace.limit} connections, the next in {wait:g} s")
        self._queue.put_back(span, wait)

    def _fetch_without_ranges(self, span: QueuedSpan) -> None:
        """Fetch a file from its beginning over a single connection, since its source does not support ranges."""
        part = span.part
        with self._queue.changed:
            if part.without_ranges:
                if span.generation == part.generation:
                    raise UserError(f"{part.file.url}: its source sends neither ranges nor the whole file")
                return
            part.without_ranges = True
            say(f"{part.file.name}: its source does not support ranges; fetching the whole file over one connection")
            part.restart()
        self._queue.add(part)

    def _hash(self, number: int) -> None:
        """Hash this thread's share of the files as their beginnings arrive."""
        mine = self.parts[number :: _hashers()]
        try:
            while mine and not self._queue.closed:
                hashed = 0
                for part in list(mine):
                    while not self._queue.closed and (some := part.hash_some()):
                        hashed += some
                    if part.complete and self._finish(part):
                        mine.remove(part)
                if not hashed:
                    time.sleep(IDLE_SECONDS)
        except BaseException as error:
            self._fail(error)

    def _finish(self, part: PartialFile) -> bool:
        """Publish a complete file whose hash is right, else restart it; return whether it was published."""
        if part.verified:
            began = time.perf_counter()
            part.publish()
            self.totals.add(flushed=time.perf_counter() - began)
            self.sha256[part.file.name] = part.sha256
            with self._queue.changed:
                self._queue.changed.notify_all()
            return True
        part.failures += 1
        part.restart()
        if part.failures > 1:
            raise UserError(
                f"{part.file.url}: the hash of what was fetched was wrong twice; the source, or a proxy before it, is faulty"
            )
        say(f"{part.file.name}: its hash is wrong; fetching it again")
        self._queue.add(part)
        return False

    def _sync(self) -> None:
        """Flush what has arrived to disk at intervals, so that the disk is neither idle first nor the bottleneck at the end."""
        at, synced = time.monotonic(), 0
        try:
            while not self._queue.closed:
                if time.monotonic() - at > SYNC_SECONDS or self.totals.fetched - synced > SYNC_BYTES:
                    at, synced = time.monotonic(), self.totals.fetched
                    for part in self.parts:
                        if part.dirty:
                            part.sync()
                else:
                    time.sleep(TICK_SECONDS / 4)
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._queue.changed:
            self._failure = self._failure or error
        self._queue.close()


def _hashers() -> int:
    return min(4, cores())
