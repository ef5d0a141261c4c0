"""Tells, for a request over HTTP, what is the user's mistake and what only a moment's trouble of the network."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from steps.common.runtime.errors import InterruptedReadError, UnknownHostError, UserError

PASSING = (408, 425, 429)  # statuses besides those from 500 on, after which the same request may succeed
NOT_TRUSTED = (
    "this machine does not trust the authority that signed its certificate; in a cluster, put your company's certificate "
    "authorities into a ConfigMap: kubectl create configmap fineline-certificates --from-file=ca.crt"
)


@contextmanager
def web_errors(shown: str) -> Iterator[None]:
    """Raise what httpx2 raises as one of our errors.

    Args:
        shown: the address without secrets.

    Raises:
        UserError: the address is malformed, is redirected without an end, or has a certificate that is not trusted.
        UnknownHostError: no DNS server knows the host.
        InterruptedReadError: the connection failed for another reason.
    """
    import httpx2

    try:
        yield
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as error:
        raise UserError(f"{shown}: {in_one_line(error)}") from None
    except (httpx2.HTTPError, OSError) as error:
        raise interruption(shown, error) from None


def interruption(shown: str, error: BaseException) -> Exception:
    """Return a failed connection as one of our errors; see `web_errors`."""
    reason = in_one_line(error)
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return UserError(f"{shown}: {NOT_TRUSTED}")
    if any(isinstance(one, socket.gaierror) and one.errno == socket.EAI_NONAME for one in _chain(error)):
        return UnknownHostError(reason)
    return InterruptedReadError(reason)


def check_status(response: Any) -> None:
    """Raise if the answer's status is one that passes.

    Args:
        response: a response of httpx2, of any status.

    Raises:
        InterruptedReadError: the host is busy or has failed.
    """
    if response.status_code in PASSING or response.status_code >= 500:
        wait = seconds_to_wait(response.headers.get("retry-after"))
        raise InterruptedReadError(f"the host answers with status {response.status_code}", wait)


def seconds_to_wait(retry_after: str | None) -> float:
    """Return the seconds of a Retry-After header, which may be a date; 0 if there is none."""
    if not retry_after:
        return 0.0
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def in_one_line(error: BaseException) -> str:
    """Return an error's text as one line; its name if it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
