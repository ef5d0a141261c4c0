"""Reads small text files, such as config.json, at their source."""

from pathlib import Path

from steps.common.runtime.errors import InterruptedReadError, UserError
from steps.common.storage.object_store import open_store, translate_errors
from steps.common.web.web_client import web_client
from steps.common.weights.sources.hub import HubHeaders
from steps.common.weights.sources.listing import SourceFile

SECONDS = 30.0


def read_small(file: SourceFile) -> str:
    """Return the text of a file.

    Raises:
        UserError: it cannot be read.
        UnicodeDecodeError: it is not text.
    """
    scheme = file.url.partition("://")[0] if "://" in file.url else ""
    if scheme in ("http", "https"):
        return _over_http(file.url)
    if scheme:
        store, path = open_store(file.url)
        try:
            with translate_errors(file.url, lambda: store.open_input_stream(path)) as source:
                return bytes(translate_errors(file.url, source.read)).decode()
        except InterruptedReadError as error:
            raise UserError(f"{file.url}: cannot be read: {error}") from None
    return Path(file.url).read_text()


def _over_http(url: str) -> str:
    import httpx2

    headers = HubHeaders().for_url(url)
    try:
        with web_client(timeout=SECONDS) as client:
            response = client.get(url, headers=headers)
        return str(response.raise_for_status().text)
    except httpx2.HTTPError as error:
        raise UserError(f"{url}: cannot be read: {error}") from None
