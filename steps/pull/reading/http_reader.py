"""Reads spans of a file over HTTP: reuses connections, follows redirects once per file, sends credentials to their host."""

import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from steps.common.runtime.errors import InterruptedReadError, UserError
from steps.common.runtime.proxies import proxied
from steps.common.storage.web_errors import interruption, seconds_to_wait
from steps.common.web.trusted_hosts import check_scheme
from steps.common.weights.sources.hub import HubHeaders
from steps.common.weights.sources.listing import SourceFile
from steps.pull.reading.guarded_pools import answered_in_public, check_name, guarded_pools
from steps.pull.reading.read_errors import NoRangesError, ThrottledError

BLOCK = 1 << 18
CONNECT_SECONDS = 10.0
STALL_SECONDS = 30.0  # without a byte; fewer than SLOWEST_BYTES in that time count as none
SLOWEST_BYTES = 1 << 16
REDIRECTS = 5
REDIRECT = (301, 302, 303, 307, 308)
THROTTLED = (429, 503)
REFUSED = (401, 403, 404, 410)


class Web:
    """Reads files over HTTP; shared by all connections of a process."""

    def __init__(self, connections: int) -> None:
        """Allow up to so many connections to a host."""
        import urllib.request

        import urllib3

        # urllib3 rather than a client of a higher level: it reads from the socket without a copy.
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=STALL_SECONDS)
        options: dict[str, Any] = {"maxsize": connections, "retries": False, "timeout": timeout}
        self._proxies = {
            scheme: _proxy(address, options)
            for scheme, address in urllib.request.getproxies().items()
            if scheme in ("http", "https")
        }
        self._direct = guarded_pools(options, from_public=False)
        self._redirected = guarded_pools(options, from_public=True)
        self._hub = HubHeaders()
        # URL after redirects, and whether a public address has redirected to it, by listed URL.
        self._moved: dict[str, tuple[str, bool]] = {}
        self._first: dict[str, threading.Lock] = {}
        self._ranged: set[str] = set()  # URLs that have answered with ranges
        self._lock = threading.Lock()

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[bytes]:
        """Yield the blocks of a span as they arrive.

        Args:
            file: the file.
            start: offset of the first byte.
            end: offset after the last byte; 0: the end of the file, whose size is unknown.

        Raises:
            InterruptedReadError: the connection was lost or has stalled.
            ThrottledError: the source answers 429 or 503.
            NoRangesError: the source sends only the whole file.
            UserError: the source refuses, or has another file.
        """
        whole = start == 0 and end in (0, file.bytes)
        headers = {} if whole else {"Range": f"bytes={start}-{end - 1 if end else ''}"}
        response = self._open(file, headers)
        try:
            if response.status == 200 and not whole:
                if file.url in self._ranged:
                    raise InterruptedReadError("the source sent the whole file instead of a range, as it had before")
                raise NoRangesError
            self._check(file, response, start, end, whole=whole)
            if response.status == 206:
                self._ranged.add(file.url)
            yield from _blocks(response, end - start)
        finally:
            # A response that was read to its end returns its connection to the pool; others must be closed.
            if response.length_remaining == 0:
                response.release_conn()
            else:
                response.close()

    def _open(self, file: SourceFile, headers: dict[str, str]) -> Any:
        with self._lock:
            known, first = self._moved.get(file.url), self._first.setdefault(file.url, threading.Lock())
        if known:
            return self._follow(file, *known, headers)
        with first:  # the first connection to a file follows the redirects, and the others use what it has found
            with self._lock:
                known = self._moved.get(file.url)
            return self._follow(file, *(known or (file.url, False)), headers)

    def _follow(self, file: SourceFile, url: str, from_public: bool, headers: dict[str, str]) -> Any:
        import urllib3

        for _ in range(REDIRECTS):
            try:
                response = self._pool(url, from_public=from_public).request(
                    "GET",
                    url,
                    headers={**self._headers(file, url), **headers},
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                )
            except urllib3.exceptions.HTTPError as error:
                self._forget(file)
                raise interruption(file.url, getattr(error, "reason", None) or error) from None
            if response.status in REDIRECT and "location" in response.headers:
                target = urljoin(url, response.headers["location"])
                check_scheme(url, target)
                from_public = from_public or proxied(url) or answered_in_public(response)
                url = target
                response.drain_conn()
                continue
            if response.status >= 400 and response.status not in THROTTLED and url != file.url:
                # The redirect's target is signed for a few minutes only: request a new one.
                response.close()
                self._forget(file)
                raise InterruptedReadError(f"{urlsplit(url).hostname} answers {response.status}")
            with self._lock:
                self._moved[file.url] = url, from_public
            return response
        raise UserError(f"{file.url}: is redirected more than {REDIRECTS} times")

    def _forget(self, file: SourceFile) -> None:
        with self._lock:
            self._moved.pop(file.url, None)

    def _pool(self, url: str, *, from_public: bool) -> Any:
        if not proxied(url):
            return self._redirected if from_public else self._direct
        check_name(url, from_public=from_public)
        return self._proxies[urlsplit(url).scheme]

    def _headers(self, file: SourceFile, url: str) -> dict[str, str]:
        """Return the headers of a request; the hub's token is sent only to the hub."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "fineline"}
        if file.tag and not file.sha256:
            headers["If-Match"] = file.tag
        return {**headers, **self._hub.for_url(url)}

    def _check(self, file: SourceFile, response: Any, start: int, end: int, *, whole: bool) -> None:
        if response.status in THROTTLED:
            raise ThrottledError(
                f"the source answers {response.status}", seconds_to_wait(response.headers.get("Retry-After"))
            )
        if response.status in REFUSED:
            raise UserError(f"{file.url}: the source answers {response.status}; check access and HF_TOKEN")
        if response.status == 412:
            raise UserError(f"{file.url}: has changed since the run was planned; plan the run again")
        if response.status not in (200, 206) and response.status != 416:
            raise InterruptedReadError(f"the source answers {response.status}")
        given = response.headers.get("Content-Range", "")
        size = given.rpartition("/")[2] if response.status != 200 else response.headers.get("Content-Length", "")
        if file.bytes and size.isdigit() and int(size) != file.bytes:
            raise InterruptedReadError(f"the source reports {size} bytes, but lists {file.bytes}")
        if not whole and not given.startswith(f"bytes {start}-"):
            raise InterruptedReadError(f"the source sent {given or 'no range'} instead of bytes {start}-{end - 1}")


def _blocks(response: Any, expected: int) -> Iterator[bytes]:
    import urllib3

    left, since, few = expected, time.monotonic(), 0
    while True:
        try:
            block = response.read1(BLOCK, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise InterruptedReadError(_reason(error)) from None
        if not block:
            return
        if expected > 0 and len(block) > left:
            raise InterruptedReadError("the source sent more than was requested")
        left -= len(block)
        yield block
        few += len(block)
        if time.monotonic() - since > STALL_SECONDS:
            if few < SLOWEST_BYTES and left:
                raise InterruptedReadError(f"only {few} bytes arrived in {STALL_SECONDS:g} s")
            since, few = time.monotonic(), 0


def _proxy(address: str, options: dict[str, Any]) -> Any:
    """Return a pool of connections through a proxy, whose address may contain a user name and a password.

    Raises:
        UserError: it is neither an HTTP nor an HTTPS proxy.
    """
    import urllib3

    proxy = urlsplit(address if "://" in address else f"http://{address}")
    credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}" if proxy.username else None
    headers = urllib3.make_headers(proxy_basic_auth=credentials) if credentials else None
    try:
        origin = f"{proxy.scheme}://{proxy.hostname}" + (f":{proxy.port}" if proxy.port else "")
        return urllib3.ProxyManager(origin, proxy_headers=headers, **options)
    except (urllib3.exceptions.HTTPError, ValueError):
        raise UserError(
            f"the proxy {proxy.scheme}://{proxy.hostname} is not supported; use an HTTP or HTTPS proxy"
        ) from None


def _reason(error: BaseException) -> str:
    text = str(getattr(error, "reason", None) or error) or type(error).__name__
    return " ".join(text.split())[:200]
