"""Reads a file that another process may change meanwhile: again if it has changed, and never more than was announced."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from steps.common.runtime.errors import UserError

READS = 3


class SteadyContent:
    """A file's content, of the size that it had when it was opened: filled up with zeros if it has become shorter."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self._file, self._left, self._digest = file, size, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Return at most so many bytes; negative: all that are left."""
        wanted = self._left if size < 0 else min(size, self._left)
        found = self._file.read(wanted)
        found += bytes(wanted - len(found))
        self._digest.update(found)
        self._left -= wanted
        return found

    def sha256(self) -> str:
        """Return the SHA-256 in hex of what has been read."""
        return self._digest.hexdigest()


def read_steadily(path: Path, write: Callable[[SteadyContent], None]) -> str:
    """Hand a file's content to `write`, again if it has changed meanwhile, and return the SHA-256 of the last one.

    Everything on the runs volume is replaced as a whole, except logs, which grow. If a file grows during every
    reading, its beginning is kept.

    Raises:
        FileNotFoundError: it is gone.
        UserError: it changes at each reading, and does not just grow.
    """
    for reading in range(1, READS + 1):
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            content = SteadyContent(file, before.st_size)
            write(content)
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            return content.sha256()
        if reading == READS and after.st_size > before.st_size:
            return content.sha256()
    raise UserError(f"{path}: changed each time that it was read; run it again later")
