"""Reads spans of a file in an object store, with Arrow's client."""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

from steps.common.storage.object_store import open_store, translate_errors
from steps.common.weights.sources.listing import SourceFile

BLOCK = 2 << 20  # a request each, held in memory, since Arrow's client cannot stream a span
CONNECTIONS = 32


class Store:
    """Reads files in object stores; shared by all connections of a process."""

    def __init__(self) -> None:
        """Start without a connection."""
        self._stores: dict[str, tuple[Any, str]] = {}
        self._lock = threading.Lock()

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[bytes]:
        """Yield the blocks of a span.

        Raises:
            InterruptedReadError: the store cannot be reached, or is busy.
            UserError: the file no longer exists, or access is denied.
        """
        store, path = self._open(file.url)
        with translate_errors(file.url, lambda: store.open_input_file(path)) as source:
            while start < end:
                block: bytes = translate_errors(file.url, partial(source.read_at, min(BLOCK, end - start), start))
                if not block:
                    return
                yield block
                start += len(block)

    def _open(self, url: str) -> tuple[Any, str]:
        folder, _, name = url.rpartition("/")
        with self._lock:
            if folder not in self._stores:
                self._stores[folder] = open_store(folder)
            store, path = self._stores[folder]
        return store, f"{path}/{name}"
