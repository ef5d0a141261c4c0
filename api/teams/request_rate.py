"""How many requests a team makes in a minute."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

MINUTE = 60.0
MOST_TEAMS = 10_000  # that are remembered; beyond that, teams without a request in the last minute are forgotten


@dataclass
class _Allowance:
    """A team's token bucket, which refills in a minute."""

    left: float
    at: float


class RequestRate:
    """Counts the requests of each team in this process, with a fixed amount of memory for each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._teams: dict[str, _Allowance] = {}

    def wait_seconds(self, team: str, a_minute: int | None) -> int:
        """Count a request and return 0 if it is allowed; otherwise return the seconds to wait, and do not count it."""
        if a_minute is None:
            return 0
        with self._lock:
            now = self._clock()
            known = self._teams.get(team)
            if known is None:
                self._forget(now)
                known = self._teams[team] = _Allowance(left=a_minute, at=now)
            # A lowered limit takes effect at once.
            known.left = min(float(a_minute), known.left + (now - known.at) * a_minute / MINUTE)
            known.at = now
            if known.left >= 1:
                known.left -= 1
                return 0
            return math.ceil((1 - known.left) * MINUTE / a_minute) if a_minute else int(MINUTE)

    def _forget(self, now: float) -> None:
        """Make room for another team. After a minute without a request, a team's bucket is full anyway."""
        if len(self._teams) >= MOST_TEAMS:
            self._teams = {team: one for team, one in self._teams.items() if now - one.at < MINUTE}
