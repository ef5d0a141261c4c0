"""A file on its way: written at its offsets, hashed as its beginning comes to be whole, known to its journal."""

import errno
import hashlib
import os
import threading
from pathlib import Path

from steps.common.weights.sources.listing import SourceFile
from steps.pull.transfer.journal import Journal, done

HASHED_AT_ONCE = 4 << 20
NOTED_AT_ONCE, NOTED_SECONDS = 1 << 20, 0.5  # what a kill may cost a connection, besides what is in its hands


class PartialFile:
    """The file, in the hands of several threads: those that write spans of it, and one that hashes."""

    def __init__(self, file: SourceFile, folder: Path) -> None:
        """Open what an earlier attempt has left, or begin."""
        self.file = file
        self.path, self.final = folder / f"{file.name}.part", folder / file.name
        self._journal_file = journal_of(file, folder)
        self._journal = Journal(self._journal_file, identity(file))
        self._lock = threading.Lock()  # of what is known of the file
        self._open, self._closed = threading.Lock(), False  # of its descriptors
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        self.size = file.bytes or None  # None: not known before its end
        if self.size is None or os.fstat(self._descriptor).st_size < self._journal.spans.end:
            self._journal.restart()
        self.generation = 0  # raised when the file is begun anew: what was fetched before is then of no use
        self.failures = 0  # how often the whole file was wrong
        self.without_ranges = False  # its source knows no ranges
        self.dirty = bool(self._journal.spans.end)  # on this machine it may not be on the disk yet
        self._begin_hash()

    def _begin_hash(self) -> None:
        self._hashed = 0
        self._sha256 = hashlib.sha256()
        self._git_sha1 = hashlib.sha1(b"blob %d\0" % (self.size or 0), usedforsecurity=False)

    @property
    def received(self) -> int:
        """Bytes that have come."""
        with self._lock:
            return self._journal.spans.total

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Spans that have not come; one without an end, as size 0, where the size is not known."""
        with self._lock:
            return self._journal.spans.missing(self.size) if self.size is not None else [(0, 0)]

    def write(self, block: bytes, at: int) -> None:
        """Write a block at its offset; it is noted by `note`."""
        view = memoryview(block)
        while view:
            written = os.pwrite(self._descriptor, view, at)
            view, at = view[written:], at + written

    def record(self, start: int, end: int, generation: int) -> None:
        """Write down that a span has been written, unless the file was begun anew meanwhile."""
        with self._lock:
            if end > start and generation == self.generation and not self._closed:
                self._journal.add(start, end)
                self.dirty = True

    def set_size(self, size: int) -> None:
        """Say how large the file is, where its source has not."""
        with self._lock:
            self.size = size
            self._begin_hash()

    def sync(self) -> None:
        """Bring what has come to the disk, and note that."""
        with self._open:
            if self._closed:
                return
            with self._lock:
                length, generation, self.dirty = self._journal.length, self.generation, False
            try:
                os.fdatasync(self._descriptor)
            except OSError:
                self.restart()  # the kernel has dropped pages that it could not write: nobody knows which
                raise
            with self._lock:
                if generation == self.generation:
                    self._journal.synced(length)

    def hash_some(self) -> int:
        """Hash what has come next to what is hashed already, some megabytes at most, and return how many bytes."""
        with self._lock:
            until = min(self._journal.spans.prefix, self._hashed + HASHED_AT_ONCE)
            at, sha256, git_sha1 = self._hashed, self._sha256, self._git_sha1
        if until <= at:
            return 0
        block = os.pread(self._descriptor, until - at, at)
        if not block:
            raise OSError(errno.EIO, "its end is missing", str(self.path))
        sha256.update(block)
        if self.file.git_sha1:
            git_sha1.update(block)
        with self._lock:
            if sha256 is self._sha256:  # else it was begun anew meanwhile
                self._hashed = at + len(block)
        return len(block)

    @property
    def complete(self) -> bool:
        """Tell whether every byte has come and was hashed."""
        with self._lock:
            return self.size is not None and self._hashed >= self.size

    @property
    def verified(self) -> bool:
        """Tell whether a complete file is what its source lists."""
        if self.file.sha256:
            return self.sha256 == self.file.sha256
        return not self.file.git_sha1 or self._git_sha1.hexdigest() == self.file.git_sha1

    @property
    def sha256(self) -> str:
        """The sha256 in hex of a complete file."""
        return self._sha256.hexdigest()

    def restart(self) -> None:
        """Begin anew: what came is not what the source lists, or cannot be gone on with."""
        with self._lock:
            self.generation += 1
            self.size = self.file.bytes or None
            self._journal.restart()
            self._begin_hash()

    def publish(self) -> None:
        """Give a complete file its name; its bytes are on the disk by then."""
        with self._open:
            os.ftruncate(self._descriptor, self.size or 0)  # another content that was longer may have been here
            os.fsync(self._descriptor)
            if not self.file.sha256 and not self.file.git_sha1:
                self._journal.done(self.sha256)  # its source lists nothing to tell it by
            self.path.replace(self.final)
        self.close()
        if self.file.sha256 or self.file.git_sha1:
            self._journal_file.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files."""
        with self._open, self._lock:
            if not self._closed:
                self._closed = True
                self._journal.close()
                os.close(self._descriptor)


def finished(file: SourceFile, folder: Path) -> str:
    """Return the sha256 of a file that an earlier attempt has finished, and of which its source lists no hash; else nothing."""
    return done(journal_of(file, folder), identity(file))


def journal_of(file: SourceFile, folder: Path) -> Path:
    """Return where a file's journal is while the folder is made."""
    return folder / f"{file.name}.journal"


def identity(file: SourceFile) -> str:
    """Return what names a file's content: spans of another content are not gone on with."""
    return f"{file.bytes} {file.content}"
