"""Spans of a file in an object store, by Arrow's client of it."""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

from steps.common.storage.object_store import open_store, translate_errors
from steps.common.weights.sources.listing import SourceFile

BLOCK = 2 << 20  # each is a request, and in memory; a store's client has no way to read a span as it comes
CONNECTIONS = 32


class Store:
    """Reads from object stores; one for all connections of a process."""

    def __init__(self) -> None:
        """Begin without a connection."""
        self._stores: dict[str, tuple[Any, str]] = {}
        self._lock = threading.Lock()

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[bytes]:
        """Yield the blocks of a span.

        Raises:
            InterruptedReadError: the store is out of reach, or busy.
            UserError: nothing is there any more, or it may not be read.
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
