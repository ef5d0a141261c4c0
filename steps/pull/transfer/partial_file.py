"""A file in transfer: written at its offsets, hashed from its beginning as that is complete, recorded in its journal."""

import errno
import hashlib
import os
import threading
from pathlib import Path

from steps.common.weights.sources.listing import SourceFile
from steps.pull.transfer.journal import Journal, done

HASHED_AT_ONCE = 4 << 20
NOTED_AT_ONCE, NOTED_SECONDS = 1 << 20, 0.5  # how often to record: the most that a kill costs a connection


class PartialFile:
    """A file that several threads write and one thread hashes."""

    def __init__(self, file: SourceFile, folder: Path) -> None:
        """Open what an earlier attempt has left, or start."""
        self.file = file
        self.path, self.final = folder / f"{file.name}.part", folder / file.name
        self._journal_file = journal_of(file, folder)
        self._journal = Journal(self._journal_file, identity(file))
        self._lock = threading.Lock()  # guards the state
        self._open, self._closed = threading.Lock(), False  # guards the descriptors
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        self.size = file.bytes or None  # None: unknown until its end
        if self.size is None or os.fstat(self._descriptor).st_size < self._journal.spans.end:
            self._journal.restart()
        self.generation = 0  # incremented by `restart`, so that spans fetched before are dropped
        self.failures = 0  # how often the complete file had a wrong hash
        self.without_ranges = False  # its source does not support ranges
        self.dirty = bool(self._journal.spans.end)  # has spans that may not be on disk
        self._begin_hash()

    def _begin_hash(self) -> None:
        self._hashed = 0
        self._sha256 = hashlib.sha256()
        self._git_sha1 = hashlib.sha1(b"blob %d\0" % (self.size or 0), usedforsecurity=False)

    @property
    def received(self) -> int:
        """Number of bytes that have arrived."""
        with self._lock:
            return self._journal.spans.total

    @property
    def missing(self) -> list[tuple[int, int]]:
        """The spans that are missing; (0, 0) if the size is unknown."""
        with self._lock:
            return self._journal.spans.missing(self.size) if self.size is not None else [(0, 0)]

    def write(self, block: bytes, at: int) -> None:
        """Write a block at its offset; `record` adds it to the journal."""
        view = memoryview(block)
        while view:
            written = os.pwrite(self._descriptor, view, at)
            view, at = view[written:], at + written

    def record(self, start: int, end: int, generation: int) -> None:
        """Record that a span has been written, unless the file was restarted meanwhile."""
        with self._lock:
            if end > start and generation == self.generation and not self._closed:
                self._journal.add(start, end)
                self.dirty = True

    def set_size(self, size: int) -> None:
        """Set the size, if the source had not listed it."""
        with self._lock:
            self.size = size
            self._begin_hash()

    def sync(self) -> None:
        """Flush what has arrived to disk, and record that."""
        with self._open:
            if self._closed:
                return
            with self._lock:
                length, generation, self.dirty = self._journal.length, self.generation, False
            try:
                os.fdatasync(self._descriptor)
            except OSError:
                self.restart()  # the kernel has dropped pages that it failed to write, and does not say which
                raise
            with self._lock:
                if generation == self.generation:
                    self._journal.synced(length)

    def hash_some(self) -> int:
        """Hash up to some megabytes after what has been hashed, and return how many bytes."""
        with self._lock:
            until = min(self._journal.spans.prefix, self._hashed + HASHED_AT_ONCE)
            at, sha256, git_sha1 = self._hashed, self._sha256, self._git_sha1
        if until <= at:
            return 0
        block = os.pread(self._descriptor, until - at, at)
        if not block:
            raise OSError(errno.EIO, "the file is shorter than its journal says", str(self.path))
        sha256.update(block)
        if self.file.git_sha1:
            git_sha1.update(block)
        with self._lock:
            if sha256 is self._sha256:  # else it was restarted meanwhile
                self._hashed = at + len(block)
        return len(block)

    @property
    def complete(self) -> bool:
        """Whether every byte has arrived and been hashed."""
        with self._lock:
            return self.size is not None and self._hashed >= self.size

    @property
    def verified(self) -> bool:
        """Whether a complete file has the hash that its source lists, if any."""
        if self.file.sha256:
            return self.sha256 == self.file.sha256
        return not self.file.git_sha1 or self._git_sha1.hexdigest() == self.file.git_sha1

    @property
    def sha256(self) -> str:
        """The sha256 of a complete file, in hex."""
        return self._sha256.hexdigest()

    def restart(self) -> None:
        """Start over: the content is wrong, or the transfer cannot be resumed."""
        with self._lock:
            self.generation += 1
            self.size = self.file.bytes or None
            self._journal.restart()
            self._begin_hash()

    def publish(self) -> None:
        """Rename a complete file to its final name, after it is on disk."""
        with self._open:
            os.ftruncate(self._descriptor, self.size or 0)  # an earlier attempt at other content may have been longer
            os.fsync(self._descriptor)
            if not self.file.sha256 and not self.file.git_sha1:
                self._journal.done(self.sha256)  # the only record of its hash, since the source lists none
            self.path.replace(self.final)
        self.close()
        if self.file.sha256 or self.file.git_sha1:
            self._journal_file.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file and its journal."""
        with self._open, self._lock:
            if not self._closed:
                self._closed = True
                self._journal.close()
                os.close(self._descriptor)


def finished(file: SourceFile, folder: Path) -> str:
    """Return the sha256 of a file without a listed hash that an earlier attempt has finished; empty if it has not."""
    return done(journal_of(file, folder), identity(file))


def journal_of(file: SourceFile, folder: Path) -> Path:
    """Return the path of a file's journal."""
    return folder / f"{file.name}.journal"


def identity(file: SourceFile) -> str:
    """Return the identity of a file's content, for its journal."""
    return f"{file.bytes} {file.content}"
