"""A step's progress: a line of text for its log, and `N/M` for Argo.

Argo reads the file that ARGO_PROGRESS_FILE names; the run on one machine gives each step such a file too.
"""

import os
import sys
import time
from pathlib import Path

PREFIX = "progress: "
EVERY_SECONDS = 1.0


def say(text: str) -> None:
    """Write a line to the step's log: standard error, since standard output is the step's result."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Counts up to `total` and tells how far it is, at most once a second."""

    def __init__(self, total: int, unit: str) -> None:
        """Start at nought.

        Args:
            total: what is to be done, in `unit`; 0 where nobody knows.
            unit: "MB", "steps", "rows".
        """
        self.total = total
        self.unit = unit
        self._file = os.environ.get("ARGO_PROGRESS_FILE")
        self._started = time.monotonic()
        self._first = 0
        self._told, self._ended = 0.0, False

    def resume_from(self, done: int) -> None:
        """Say that `done` was already there, so that the time left is not reckoned from it."""
        self._first = done
        self._started = time.monotonic()

    def update(self, done: int, detail: str = "") -> bool:
        """Tell that `done` of the total is done, unless that was told just now; return whether it was told."""
        now = time.monotonic()
        at_the_end = done == self.total and not self._ended
        if now - self._told < EVERY_SECONDS and not at_the_end:
            return False
        self._told, self._ended = now, done == self.total
        if self._file and self.total:
            Path(self._file).write_text(f"{min(done, self.total)}/{self.total}\n")
        count = f"{done}/{self.total} {self.unit}" if self.total else f"{done} {self.unit}"
        say(PREFIX + ", ".join(part for part in (count, detail, self._left(done, now)) if part))
        return True

    def _left(self, done: int, now: float) -> str:
        gained = done - self._first
        if not self.total or gained <= 0 or done >= self.total:
            return ""
        seconds = (now - self._started) / gained * (self.total - done)
        return f"{duration(seconds)} left"


def duration(seconds: float) -> str:
    """Return seconds as a person reads them: 45s, 3m05s, 2h10m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
