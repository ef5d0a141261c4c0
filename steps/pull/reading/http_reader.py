"""Spans of a file over HTTP: connections are kept, redirects are followed once a file, credentials stay with their host."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from steps.common.runtime.errors import InterruptedReadError, UserError
from steps.common.weights.sources.hub import hub_headers
from steps.common.weights.sources.listing import SourceFile
from steps.pull.reading.read_errors import NoRangesError, ThrottledError

BLOCK = 1 << 18
CONNECT_SECONDS = 10.0
STALL_SECONDS = 30.0  # without a byte; and the time in which so few as SLOWEST_BYTES are taken for none
SLOWEST_BYTES = 1 << 16
REDIRECTS = 5
REDIRECT = (301, 302, 303, 307, 308)
THROTTLED = (429, 503)
REFUSED = (401, 403, 404, 410)


class Web:
    """Reads over HTTP; one for all connections of a process."""

    def __init__(self, connections: int) -> None:
        """Keep up to so many connections to a host open."""
        import urllib.request

        import urllib3

        # By the pool, not by a client of a higher level: what counts here is to have bytes from the socket without a copy.
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=STALL_SECONDS)
        options: dict[str, Any] = {"maxsize": connections, "retries": False, "timeout": timeout}
        self._proxies = {
            scheme: _proxy(address, options)
            for scheme, address in urllib.request.getproxies().items()
            if scheme in ("http", "https")
        }
        self._direct = urllib3.PoolManager(**options)
        self._hub = hub_headers()
        self._moved: dict[str, str] = {}  # where a file's bytes are, by where it was listed
        self._first: dict[str, threading.Lock] = {}
        self._ranged: set[str] = set()  # files of which ranges have come
        self._lock = threading.Lock()

    def read(self, file: SourceFile, start: int, end: int) -> Iterator[bytes]:
        """Yield the blocks of a span as they come.

        Args:
            file: of whose URL.
            start: the first byte.
            end: behind the last one; 0: to the file's end, which is not known.

        Raises:
            InterruptedReadError: they do not come any more.
            ThrottledError: the source answers 429 or 503.
            NoRangesError: it gives the file as a whole only.
            UserError: it refuses, or has another file.
        """
        whole = start == 0 and end in (0, file.bytes)
        headers = {} if whole else {"Range": f"bytes={start}-{end - 1 if end else ''}"}
        response = self._open(file, headers)
        try:
            if response.status == 200 and not whole:
                if file.url in self._ranged:
                    raise InterruptedReadError("the source gave the whole file where it had given ranges")
                raise NoRangesError
            self._check(file, response, start, end, whole=whole)
            if response.status == 206:
                self._ranged.add(file.url)
            yield from _blocks(response, end - start)
        finally:
            # One that was read to its end goes back to the pool; another is of no further use.
            if response.length_remaining == 0:
                response.release_conn()
            else:
                response.close()

    def _open(self, file: SourceFile, headers: dict[str, str]) -> Any:
        with self._lock:
            known, first = self._moved.get(file.url), self._first.setdefault(file.url, threading.Lock())
        if known:
            return self._follow(file, known, headers)
        with first:  # of many connections that begin with a file one asks where it is, and the others know then
            with self._lock:
                known = self._moved.get(file.url)
            return self._follow(file, known or file.url, headers)

    def _follow(self, file: SourceFile, url: str, headers: dict[str, str]) -> Any:
        import urllib3

        for _ in range(REDIRECTS):
            try:
                response = self._pool(url).request(
                    "GET",
                    url,
                    headers={**self._headers(file, url), **headers},
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                )
            except urllib3.exceptions.HTTPError as error:
                self._forget(file)
                raise InterruptedReadError(_reason(error)) from None
            if response.status in REDIRECT and "location" in response.headers:
                url = urljoin(url, response.headers["location"])
                response.drain_conn()
                continue
            if response.status >= 400 and response.status not in THROTTLED and url != file.url:
                # Where it was is signed for some minutes only: ask again where it is.
                response.close()
                self._forget(file)
                raise InterruptedReadError(f"{urlsplit(url).hostname} answers {response.status}")
            with self._lock:
                self._moved[file.url] = url
            return response
        raise UserError(f"{file.url}: is redirected more than {REDIRECTS} times")

    def _forget(self, file: SourceFile) -> None:
        with self._lock:
            self._moved.pop(file.url, None)

    def _pool(self, url: str) -> Any:
        import urllib.request

        scheme, host = urlsplit(url).scheme, urlsplit(url).netloc
        proxy = self._proxies.get(scheme)
        return proxy if proxy and not urllib.request.proxy_bypass(host) else self._direct

    def _headers(self, file: SourceFile, url: str) -> dict[str, str]:
        """Return the headers of a request; the hub's token goes to the hub alone."""
        common = {"Accept-Encoding": "identity", "User-Agent": "fineline"}
        if file.tag and not file.sha256:
            common["If-Match"] = file.tag
        host, headers = self._hub
        return {**common, **headers} if urlsplit(url).netloc == host else common

    def _check(self, file: SourceFile, response: Any, start: int, end: int, *, whole: bool) -> None:
        if response.status in THROTTLED:
            raise ThrottledError(f"the source answers {response.status}", _seconds(response.headers.get("Retry-After")))
        if response.status in REFUSED:
            raise UserError(f"{file.url}: the source answers {response.status}; check access and HF_TOKEN")
        if response.status == 412:
            raise UserError(f"{file.url}: has changed since the run was planned; plan it again")
        if response.status not in (200, 206) and response.status != 416:
            raise InterruptedReadError(f"the source answers {response.status}")
        told = response.headers.get("Content-Range", "")
        size = told.rpartition("/")[2] if response.status != 200 else response.headers.get("Content-Length", "")
        if file.bytes and size.isdigit() and int(size) != file.bytes:
            raise InterruptedReadError(f"the source says {size} bytes, and lists {file.bytes}")
        if not whole and not told.startswith(f"bytes {start}-"):
            raise InterruptedReadError(
                f"the source gives {told or 'no range'} where bytes {start}-{end - 1} were asked for"
            )


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
            raise InterruptedReadError("the source sends more than was asked for")
        left -= len(block)
        yield block
        few += len(block)
        if time.monotonic() - since > STALL_SECONDS:
            if few < SLOWEST_BYTES and left:
                raise InterruptedReadError(f"only {few} bytes came in {STALL_SECONDS:g} s")
            since, few = time.monotonic(), 0


def _proxy(address: str, options: dict[str, Any]) -> Any:
    """Return what goes through a proxy, whose name and password may stand in its address.

    Raises:
        UserError: it is one of another kind.
    """
    import urllib3

    told = urlsplit(address if "://" in address else f"http://{address}")
    who = f"{unquote(told.username)}:{unquote(told.password or '')}" if told.username else None
    headers = urllib3.make_headers(proxy_basic_auth=who) if who else None
    try:
        place = f"{told.scheme}://{told.hostname}" + (f":{told.port}" if told.port else "")
        return urllib3.ProxyManager(place, proxy_headers=headers, **options)
    except (urllib3.exceptions.HTTPError, ValueError):
        raise UserError(f"the proxy {told.scheme}://{told.hostname} cannot be used; HTTP and HTTPS ones can") from None


def _reason(error: BaseException) -> str:
    text = str(getattr(error, "reason", None) or error) or type(error).__name__
    return " ".join(text.split())[:200]


def _seconds(told: str | None) -> float:
    """Return what Retry-After says, in seconds or as a date; 0 where it says nothing."""
    if not told:
        return 0.0
    try:
        return max(0.0, float(told))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
