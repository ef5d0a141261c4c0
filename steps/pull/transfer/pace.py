"""How many connections: more while that brings more, fewer where the source asks for less."""

import threading
import time

FIRST, MOST = 8, 64
MEASURE_SECONDS = 0.5
WORTH_IT = 1.08  # what more connections have to bring: less is within what rates vary by
HOLD_SECONDS = 15.0  # after the source has asked for less
PAUSE_SECONDS = 2.0  # where it does not say for how long


class Pace:
    """The number of connections that may read at once, moved by what they bring."""

    def __init__(self, first: int = FIRST, most: int = MOST) -> None:
        """Begin with so many, and never have more than the second."""
        self.limit, self.most = min(first, most), most
        self.peak = 0
        self._measured, self._bytes = time.monotonic(), 0
        self._best = 0.0
        self._held_until = self._paused_until = 0.0
        self._lock = threading.Lock()

    def measure(self, fetched: int, active: int) -> None:
        """Take note of how many bytes have come in all, and of how many connections read; more may do so then."""
        now = time.monotonic()
        with self._lock:
            self.peak = max(self.peak, active)
            passed = now - self._measured
            if passed < MEASURE_SECONDS:
                return
            rate, self._measured, self._bytes = (fetched - self._bytes) / passed, now, fetched
            if active < self.limit or now < self._held_until:
                return  # nobody waits for a place, or the source does not want it
            if rate > self._best * WORTH_IT:
                self._best = rate
                self.limit = min(self.most, 2 * self.limit)

    def throttled(self, seconds: float) -> float:
        """Have fewer connections, and none that begins for some seconds; return for how many."""
        now, pause = time.monotonic(), seconds or PAUSE_SECONDS
        with self._lock:
            # Of many that were refused at once only the first halves: they are one answer.
            if now >= self._paused_until:
                self.limit = max(1, self.limit // 2)
                self._best = 0.0
            self._paused_until = max(self._paused_until, now + pause)
            self._held_until = max(self._held_until, now + HOLD_SECONDS)
        return pause

    @property
    def paused(self) -> bool:
        """Tell whether nothing may begin just now."""
        with self._lock:
            return time.monotonic() < self._paused_until
