"""Controls the number of connections: raises it while that adds speed, lowers it when the source throttles."""

import threading
import time

FIRST, MOST = 8, 64
MEASURE_SECONDS = 0.5
WORTH_IT = 1.08  # smallest gain for which to add connections; smaller ones are noise
HOLD_SECONDS = 15.0  # without more connections after the source has throttled
PAUSE_SECONDS = 2.0  # if the source does not say for how long


class Pace:
    """The number of connections that may read at once, adapted to the measured rate."""

    def __init__(self, first: int = FIRST, most: int = MOST) -> None:
        """Start with `first` connections, and never allow more than `most`."""
        self.limit, self.most = min(first, most), most
        self.peak = 0
        self._measured, self._bytes = time.monotonic(), 0
        self._best = 0.0
        self._held_until = self._paused_until = 0.0
        self._lock = threading.Lock()

    def measure(self, fetched: int, active: int) -> None:
        """Measure the rate, and allow more connections if the last increase has paid off.

        Args:
            fetched: total bytes so far.
            active: connections that are reading.
        """
        now = time.monotonic()
        with self._lock:
            self.peak = max(self.peak, active)
            passed = now - self._measured
            if passed < MEASURE_SECONDS:
                return
            rate, self._measured, self._bytes = (fetched - self._bytes) / passed, now, fetched
            if active < self.limit or now < self._held_until:
                return  # no connection is waiting to start, or the source throttles
            if rate > self._best * WORTH_IT:
                self._best = rate
                self.limit = min(self.most, 2 * self.limit)

    def throttled(self, seconds: float) -> float:
        """Allow fewer connections, and start none for some seconds; return for how many."""
        now, pause = time.monotonic(), seconds or PAUSE_SECONDS
        with self._lock:
            # Many requests throttled at once are one signal: only the first of them halves the limit.
            if now >= self._paused_until:
                self.limit = max(1, self.limit // 2)
                self._best = 0.0
            self._paused_until = max(self._paused_until, now + pause)
            self._held_until = max(self._held_until, now + HOLD_SECONDS)
        return pause

    @property
    def paused(self) -> bool:
        """Whether no connection may start at the moment."""
        with self._lock:
            return time.monotonic() < self._paused_until
