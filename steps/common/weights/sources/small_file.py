"""Reads small text files, such as config.json, at their source."""

from pathlib import Path

from steps.common.runtime.errors import UserError
from steps.common.storage.object_store import open_store, translate_errors
from steps.common.storage.retry import with_retries
from steps.common.storage.web_errors import check_status, web_errors
from steps.common.web.web_client import web_client
from steps.common.weights.sources.hub import HubHeaders
from steps.common.weights.sources.listing import SourceFile

SECONDS = 30.0


def read_small(file: SourceFile) -> str:
    """Return the text of a file.

    Raises:
        UserError: it does not exist, or access is denied.
        UnreachableError: its source did not answer, even when asked again.
        UnicodeDecodeError: it is not text.
    """
    scheme = file.url.partition("://")[0] if "://" in file.url else ""
    if scheme in ("http", "https"):
        return with_retries(file.url, lambda: _over_http(file.url))
    if scheme:
        return with_retries(file.url, lambda: _from_store(file.url))
    return Path(file.url).read_text()


def _from_store(url: str) -> str:
    store, path = open_store(url)
    with translate_errors(url, lambda: store.open_input_stream(path)) as source:
        return bytes(translate_errors(url, source.read)).decode()


def _over_http(url: str) -> str:

    headers = HubHeaders().for_url(url)
    with web_errors(url), web_client(timeout=SECONDS) as client:
        response = client.get(url, headers=headers)
    check_status(response)
    if not response.is_success:
        raise UserError(f"{url}: cannot be read: the host answers with status {response.status_code}")
    return str(response.text)
