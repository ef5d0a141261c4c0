"""Say what a step is waiting for: at once, when that changes, and every half minute."""

import time
from collections.abc import Callable

from steps.common.runtime.progress import PREFIX, duration, say

REPEAT_SECONDS = 30.0


class WaitingLine:
    """The progress line of one wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._started = clock, clock()
        self._subject, self._said_at = "", 0.0

    def report(self, subject: str, detail: str = "") -> None:
        """Print what is being waited for, unless the same was printed less than half a minute ago.

        Args:
            subject: what is being waited for; a new one is printed at once.
            detail: its state, which may change with every call.
        """
        now = self._clock()
        if subject == self._subject and now - self._said_at < REPEAT_SECONDS:
            return
        self._subject, self._said_at = subject, now
        waited = now - self._started
        parts = [f"waiting for {subject}", detail, duration(waited) if waited >= 1 else ""]
        say(PREFIX + ", ".join(part for part in parts if part))
