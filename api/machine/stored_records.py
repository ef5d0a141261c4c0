"""Caches records that are read often, and reads one again only after its file has changed."""

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from steps.common.runtime.errors import UserError

LOG = logging.getLogger("fineline.api")

Stored = TypeVar("Stored")


class StoredRecords(Generic[Stored]):
    """The content of files that are replaced whole or only appended to. A record is shared, and must not be changed."""

    def __init__(self, read: Callable[[bytes, Path], Stored], most: int) -> None:
        """Start empty.

        Args:
            read: turns a file's content into a record, or raises ValueError or UserError.
            most: how many files are cached.
        """
        self._read = read
        self._most = most
        self._known: OrderedDict[Path, tuple[tuple[int, int, int], Stored | None]] = OrderedDict()
        self._refused: dict[Path, str] = {}  # files that the disk did not give, and why
        self._lock = threading.Lock()

    def read(self, file: Path) -> Stored | None:
        """Return the record in a file; None if there is no such file, or, with a line in the log, if it cannot be read."""
        return self.look(file)[0]

    def look(self, file: Path) -> tuple[Stored | None, bool]:
        """Return what `read` returns, and whether it stays so until the file changes; not so if the disk gave an error."""
        try:
            found = self._look(file)
        except FileNotFoundError:
            found = None
        except OSError as error:
            why = error.strerror or str(error)
            with self._lock:
                is_new, self._refused[file] = self._refused.get(file) != why, why
            if is_new:
                LOG.warning("%s: %s", file, why)
            return None, False
        if self._refused:
            with self._lock:
                self._refused.pop(file, None)
        return found, True

    def _look(self, file: Path) -> Stored | None:
        found = _identity(file.stat())
        with self._lock:
            known = self._known.get(file)
            if known and known[0] == found:
                self._known.move_to_end(file)
                return known[1]
        with file.open("rb") as opened:
            found = _identity(os.fstat(opened.fileno()))
            content = opened.read()
        record: Stored | None
        try:
            record = self._read(content, file)
        except (ValueError, KeyError, UserError) as error:  # one bad file must not stop the others
            LOG.warning("%s: cannot be read: %s", file, " ".join(str(error).split()))
            record = None
        with self._lock:
            self._known[file] = (found, record)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return record


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_mtime_ns, found.st_size
