"""https://HOST/PATH."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from steps.common.runtime.errors import InterruptedReadError, UserError
from steps.plan.data.remote_file import RemoteFile
from steps.plan.data.retry import patiently

STALL_SECONDS = 30.0


def look(url: str) -> RemoteFile:
    """Ask what is at the address.

    Raises:
        UserError: nothing is there, it may not be read, or its host is out of reach.
    """
    parts = urlsplit(url)
    shown = urlunsplit((parts.scheme, parts.hostname or "", parts.path, "", ""))
    return look_with_headers(url, shown, {}, "if it needs a key, use an address that holds one")


def look_with_headers(url: str, shown: str, headers: dict[str, str], on_refusal: str, tag: str = "") -> RemoteFile:
    """Ask what is at the address, with headers that no other host is sent.

    Args:
        url: to read.
        shown: the same without what is secret, for errors and records.
        headers: sent to its host, and to no other that it redirects to.
        on_refusal: what to do where the host asks who we are.
        tag: of the content, where it is known already.

    Raises:
        UserError: nothing is there, it may not be read, or its host is out of reach.
    """

    def ask() -> RemoteFile:
        with _opened(url, shown, headers, on_refusal) as response:
            etag = response.headers.get("etag", "").removeprefix("W/")
            told = etag or response.headers.get("last-modified", "")
            size = int(response.headers.get("content-length") or 0)
        name = unquote(urlsplit(url).path).rpartition("/")[2]
        return RemoteFile(name, shown, tag or (f"{told} {size}" if told else ""), size, blocks)

    def blocks() -> Iterator[bytes]:
        import httpx2

        with _opened(url, shown, headers, on_refusal) as response:
            left = int(response.headers.get("content-length") or 0)
            known = bool(left)
            try:
                for block in response.iter_raw():
                    left -= len(block)
                    yield block
            except httpx2.HTTPError as error:
                raise InterruptedReadError(str(error) or type(error).__name__) from None
            if known and left:
                raise InterruptedReadError("the connection ended early")

    return patiently(shown, ask)


class _opened:  # noqa: N801 - used as `with _opened(...)`
    """A streamed answer, or an error in one line."""

    def __init__(self, url: str, shown: str, headers: dict[str, str], on_refusal: str) -> None:
        import httpx2

        self._shown, self._on_refusal = shown, on_refusal
        # Compressed on the way, a length would be that of what is sent, and a hash of something else.
        asked = {**headers, "Accept-Encoding": "identity"}
        self._client = httpx2.Client(follow_redirects=True, timeout=STALL_SECONDS)
        self._request = self._client.build_request("GET", url, headers=asked)

    def __enter__(self) -> Any:
        import httpx2

        try:
            response = self._client.send(self._request, stream=True)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            self._client.close()
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise UserError(
                    f"{self._shown}: its certificate is signed by nobody that this machine trusts"
                ) from None
            raise InterruptedReadError(str(error) or type(error).__name__) from None
        if response.is_success:
            return response
        status = response.status_code
        wait = response.headers.get("retry-after", "")
        self._client.close()
        if status in (401, 403):
            raise UserError(f"{self._shown}: may not be read (status {status}); {self._on_refusal}")
        if status in (404, 410):
            raise UserError(f"{self._shown}: nothing is there (status {status})")
        if status == 429 or status >= 500:
            raise InterruptedReadError(f"status {status}{f', retry after {wait}' if wait.isdigit() else ''}")
        raise UserError(f"{self._shown}: its host answers with status {status}")

    def __exit__(self, *_: object) -> None:
        self._client.close()
