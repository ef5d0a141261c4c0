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
        self._lock = threading.Lock()

    def read(self, file: Path) -> Stored | None:
        """Return the record in a file; None if there is no such file, or, with a line in the log, if it cannot be read."""
        try:
            found = _identity(file.stat())
            with self._lock:
                known = self._known.get(file)
                if known and known[0] == found:
                    self._known.move_to_end(file)
                    return known[1]
            with file.open("rb") as opened:
                found = _identity(os.fstat(opened.fileno()))
                content = opened.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            LOG.warning("%s: %s", file, error.strerror)
            return None
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
