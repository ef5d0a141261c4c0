"""Reads small text files, such as config.json, and small parts of large ones at their source."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from steps.common.runtime.errors import UserError
from steps.common.storage.object_store import open_store, translate_errors
from steps.common.storage.retry import with_retries
from steps.common.storage.web_errors import check_status, web_errors
from steps.common.web.web_client import web_client
from steps.common.weights.sources.hub import HubHeaders
from steps.common.weights.sources.listing import SourceFile

SECONDS = 30.0
NO_SUCH_RANGE = 416


def read_small(file: SourceFile) -> str:
    """Return the text of a file.

    Raises:
        UserError: it does not exist, or access is denied.
        UnreachableError: its source did not answer, even when asked again.
        UnicodeDecodeError: it is not text.
    """
    with part_reader() as reader:
        return reader.read(file, 0, None).decode()


@contextmanager
def part_reader() -> Iterator["FilePartReader"]:
    """Open a reader of files' parts, which several threads may use; its connections are closed at the end."""
    with ExitStack() as opened:
        yield FilePartReader(opened)


class FilePartReader:
    """Reads parts of files, whatever their source."""

    def __init__(self, opened: ExitStack) -> None:
        """Leave it to `opened` to close the connections."""
        self._opened, self._lock = opened, threading.Lock()
        self._web: tuple[Any, HubHeaders] | None = None

    def read(self, file: SourceFile, start: int, end: int | None) -> bytes:
        """Return a part of a file; less of it, or nothing, where the file ends earlier.

        Args:
            file: the file.
            start: offset of the first byte.
            end: offset after the last byte; None: the end of the file.

        Raises:
            UserError: it does not exist, or access is denied.
            UnreachableError: its source did not answer, even when asked again.
        """
        scheme = file.url.partition("://")[0] if "://" in file.url else ""
        if scheme in ("http", "https"):
            return with_retries(file.url, lambda: self._over_http(file.url, start, end))
        if scheme:
            return with_retries(file.url, lambda: _from_store(file.url, start, end))
        try:
            with Path(file.url).open("rb") as source:
                source.seek(start)
                return source.read(-1 if end is None else end - start)
        except OSError as error:
            raise UserError(f"{file.url}: {error.strerror}") from None

    def _over_http(self, url: str, start: int, end: int | None) -> bytes:
        whole = start == 0 and end is None
        wanted = {} if whole else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        client, hub = self._client_and_headers()
        headers = {**hub.for_url(url), **wanted}
        with web_errors(url), client.stream("GET", url, headers=headers) as response:
            check_status(response)
            if response.status_code == NO_SUCH_RANGE:
                return b""
            if not response.is_success:
                raise UserError(f"{url}: cannot be read: the host answers with status {response.status_code}")
            at = start if response.status_code == 206 else 0  # a host without ranges sends all of it
            found = bytearray()
            for block in response.iter_bytes():
                found += block
                if end is not None and at + len(found) >= end:
                    break
        return bytes(found[start - at : None if end is None else end - at])

    def _client_and_headers(self) -> tuple[Any, HubHeaders]:
        with self._lock:
            if self._web is None:  # on demand: huggingface_hub takes a moment to load, which a folder does not need
                client = self._opened.enter_context(
                    web_client(timeout=SECONDS, headers={"Accept-Encoding": "identity"})
                )
                self._web = client, HubHeaders()
            return self._web


def _from_store(url: str, start: int, end: int | None) -> bytes:
    store, path = open_store(url)
    with translate_errors(url, lambda: store.open_input_file(path)) as source:
        size = translate_errors(url, source.size)
        count = max(0, (size if end is None else min(end, size)) - start)
        return bytes(translate_errors(url, lambda: source.read_at(count, start))) if count else b""
