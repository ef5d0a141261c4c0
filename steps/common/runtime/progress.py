"""A step's progress: lines in its log, `N/M` for Argo, and the latest line for the display of a run on one machine.

Argo reads the file that ARGO_PROGRESS_FILE names, `fineline run` the file that FINELINE_PROGRESS_FILE names. Both are
rewritten up to once a second; the log gets a line every half minute.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from steps.common.runtime.redaction import redact

PREFIX = "progress: "  # of the lines in the log
ARGO_SETTING, LINE_SETTING = "ARGO_PROGRESS_FILE", "FINELINE_PROGRESS_FILE"
FILE_SECONDS = 1.0
LOG_SECONDS = 30.0


def say(text: str) -> None:
    """Write a line to the step's log: standard error, since standard output is the step's result."""
    print(text, file=sys.stderr, flush=True)
    if text.startswith(PREFIX):
        _write_line(text.removeprefix(PREFIX))


class Progress:
    """Counts up to `total` and reports the count: at the start, at the end and every half minute in the log."""

    def __init__(self, total: int, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Start at zero.

        Args:
            total: the amount of work in `unit`; 0 if unknown.
            unit: "MB", "steps", "rows".
            clock: returns seconds.
        """
        self.total = total
        self.unit = unit
        self._clock = clock
        self._started = clock()
        self._first = 0
        self._reported: float | None = None
        self._logged = 0.0
        self._complete = False

    def resume_from(self, done: int) -> None:
        """Set the work that an earlier attempt has done, which the estimate of the time left leaves out."""
        self._first = done
        self._started = self._clock()

    def update(self, done: int, detail: str = "") -> bool:
        """Report that `done` of the total is done, at most once a second; return whether it was reported."""
        now = self._clock()
        first, completes = self._reported is None, done == self.total and not self._complete
        if self._reported is not None and now - self._reported < FILE_SECONDS and not completes:
            return False
        self._reported, self._complete = now, done == self.total
        if self.total and (file := os.environ.get(ARGO_SETTING)):
            Path(file).write_text(f"{min(done, self.total)}/{self.total}\n")
        count = f"{done}/{self.total} {self.unit}" if self.total else f"{done} {self.unit}"
        line = ", ".join(part for part in (count, detail, self._left(done, now)) if part)
        if first or completes or now - self._logged >= LOG_SECONDS:
            self._logged = now
            say(PREFIX + line)
        else:
            _write_line(line)
        return True

    def _left(self, done: int, now: float) -> str:
        gained = done - self._first
        if not self.total or gained <= 0 or done >= self.total:
            return ""
        seconds = (now - self._started) / gained * (self.total - done)
        return f"{duration(seconds)} left"


def _write_line(line: str) -> None:
    """Replace the file of the latest line, if there is one; the display never reads it half written."""
    if name := os.environ.get(LINE_SETTING):
        partial = Path(f"{name}.partial")
        partial.write_text(redact(line) + "\n")
        partial.replace(name)


def duration(seconds: float) -> str:
    """Return seconds in a readable form: 45s, 3m05s, 2h10m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
