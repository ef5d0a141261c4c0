"""https://HOST/PATH."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import InterruptedReadError, UserError
from steps.common.storage.retry import with_retries
from steps.common.storage.web_errors import check_status, web_errors
from steps.common.web.web_client import web_client
from steps.plan.data.remote_file import RemoteFile

STALL_SECONDS = 30.0


def find_remote(url: str) -> list[RemoteFile]:
    """Find the one file at the address.

    Raises:
        UserError: there is no file, access is denied, or no DNS server knows the host.
        UnreachableError: the host did not answer, even when asked again.
    """
    parts = urlsplit(url)
    shown = urlunsplit((parts.scheme, parts.hostname or "", parts.path, "", ""))
    remedy = (
        "if it needs a key, put it at s3:// or hf://, whose keys come from Secrets"
        if cluster_settings.in_cluster()
        else "if it needs a key, start a new run with an address that contains one; it is not kept"
    )
    return [find_with_headers(url, shown, {}, remedy)]


def find_with_headers(url: str, shown: str, headers: dict[str, str], on_refusal: str, tag: str = "") -> RemoteFile:
    """Find the file at the address, with headers that only its host receives.

    Args:
        url: the address.
        shown: the address without secrets, for errors and records.
        headers: sent to the host of the address, and to none that it redirects to.
        on_refusal: remedy if the host denies access.
        tag: tag of the content, if known already.

    Raises:
        UserError: there is no file, access is denied, or no DNS server knows the host.
        UnreachableError: the host did not answer, even when asked again.
    """

    def ask() -> RemoteFile:
        with _opened(url, shown, headers, on_refusal) as response:
            etag = response.headers.get("etag", "").removeprefix("W/")
            version = etag or response.headers.get("last-modified", "")
            size = int(response.headers.get("content-length") or 0)
        return with_headers(url, shown, headers, on_refusal, tag or (f"{version} {size}" if version else ""), size)

    return with_retries(shown, ask)


def with_headers(
    url: str, shown: str, headers: dict[str, str], on_refusal: str, tag: str, size: int, own: str = ""
) -> RemoteFile:
    """Return a file that is known to be at the address.

    Args:
        url: the address.
        shown: the address without secrets, for errors and records.
        headers: sent to the host of the address, and to none that it redirects to.
        on_refusal: remedy if the host denies access.
        tag: tag of the content; empty: unknown.
        size: in bytes; 0: unknown.
        own: what its copy is found by, if what was asked for has several files.
    """

    def blocks() -> Iterator[bytes]:
        with _opened(url, shown, headers, on_refusal) as response:
            left = int(response.headers.get("content-length") or 0)
            known = bool(left)
            with web_errors(shown):
                for block in response.iter_raw():
                    left -= len(block)
                    yield block
            if known and left:
                raise InterruptedReadError("the connection ended early")

    return RemoteFile(unquote(urlsplit(url).path).rpartition("/")[2], shown, tag, size, blocks, own)


class _opened:  # noqa: N801 - used as `with _opened(...)`
    """A streamed response, or an error in one line."""

    def __init__(self, url: str, shown: str, headers: dict[str, str], on_refusal: str) -> None:
        self._shown, self._on_refusal = shown, on_refusal
        # With compression, the length and the hash would be those of the compressed bytes.
        sent = {**headers, "Accept-Encoding": "identity"}
        self._client = web_client(timeout=STALL_SECONDS)
        self._request = self._client.build_request("GET", url, headers=sent)

    def __enter__(self) -> Any:
        try:
            with web_errors(self._shown):
                response = self._client.send(self._request, stream=True)
            check_status(response)
        except UserError as error:
            self._client.close()
            raise UserError(str(error) if self._shown in str(error) else f"{self._shown}: {error}") from None
        except InterruptedReadError:
            self._client.close()
            raise
        if response.is_success:
            return response
        status = response.status_code
        self._client.close()
        if status in (401, 403):
            raise UserError(f"{self._shown}: access denied (status {status}); {self._on_refusal}")
        if status in (404, 410):
            raise UserError(f"{self._shown}: no such file (status {status})")
        raise UserError(f"{self._shown}: the host answered with status {status}")

    def __exit__(self, *_: object) -> None:
        self._client.close()
