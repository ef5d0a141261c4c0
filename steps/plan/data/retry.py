"""Patience with a source that is busy or out of reach for a moment."""

import re
import time
from collections.abc import Callable
from typing import TypeVar

from steps.common.runtime.errors import InterruptedReadError, UserError
from steps.common.runtime.progress import say

ATTEMPTS = 5
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0
WANTED = re.compile(r"retry after (\d+)")

T = TypeVar("T")


def patiently(what: str, attempt: Callable[[], T]) -> T:
    """Return what `attempt` returns, trying again where it was interrupted: later each time, or when the source says.

    Raises:
        UserError: it was interrupted every time.
    """
    reason = ""
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except InterruptedReadError as error:
            reason = str(error)
        if number < ATTEMPTS:
            wanted = WANTED.search(reason)
            wait = float(wanted[1]) if wanted else FIRST_WAIT_SECONDS * 2 ** (number - 1)
            wait = min(LONGEST_WAIT_SECONDS, wait)
            say(f"{what}: {reason}; again in {wait:g} s")
            time.sleep(wait)
    raise UserError(f"{what}: could not be read in {ATTEMPTS} attempts: {reason}")
