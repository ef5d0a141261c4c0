"""Retries a read from a source that is busy or cannot be reached for a moment."""

import re
import time
from collections.abc import Callable
from typing import TypeVar

from steps.common.runtime.errors import InterruptedReadError, UserError
from steps.common.runtime.progress import say

ATTEMPTS = 5
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0
RETRY_AFTER = re.compile(r"retry after (\d+)")

T = TypeVar("T")


def with_retries(what: str, attempt: Callable[[], T]) -> T:
    """Return what `attempt` returns. After an interruption, try again with a growing delay, or when the source says.

    Raises:
        UserError: every attempt was interrupted.
    """
    reason = ""
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except InterruptedReadError as error:
            reason = str(error)
        if number < ATTEMPTS:
            stated = RETRY_AFTER.search(reason)
            wait = float(stated[1]) if stated else FIRST_WAIT_SECONDS * 2 ** (number - 1)
            wait = min(LONGEST_WAIT_SECONDS, wait)
            say(f"{what}: {reason}; retrying in {wait:g} s")
            time.sleep(wait)
    raise UserError(f"{what}: could not be read in {ATTEMPTS} attempts: {reason}")
