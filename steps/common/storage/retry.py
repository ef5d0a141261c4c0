"""Retries a read from a source that is busy or cannot be reached for a moment."""

import time
from collections.abc import Callable
from typing import TypeVar

from steps.common.runtime.errors import InterruptedReadError, UnknownHostError, UnreachableError, UserError
from steps.common.runtime.progress import say

ATTEMPTS = 5
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0

T = TypeVar("T")


def with_retries(what: str, attempt: Callable[[], T]) -> T:
    """Return what `attempt` returns. After an interruption, try again with a growing delay, or when the source says.

    Raises:
        UserError: no DNS server knows the host.
        UnreachableError: every attempt was interrupted for another reason.
    """
    for number in range(1, ATTEMPTS):
        try:
            return attempt()
        except InterruptedReadError as error:
            wait = min(LONGEST_WAIT_SECONDS, error.wait_seconds or FIRST_WAIT_SECONDS * 2 ** (number - 1))
            say(f"{what}: {error}; retrying in {wait:g} s")
            time.sleep(wait)
    try:
        return attempt()
    except UnknownHostError as error:
        raise UserError(f"{what}: {error}; check the address") from None
    except InterruptedReadError as error:
        raise UnreachableError(
            f"{what}: could not be read in {ATTEMPTS} attempts: {error}; run it again later"
        ) from None
