"""What a transfer has done, added up by its threads."""

import threading
from dataclasses import dataclass, field


@dataclass
class Totals:
    """What was done, for the report."""

    fetched: int = 0  # bytes, those included that turned out to be wrong
    waited: float = 0.0  # seconds of all connections together, for bytes
    wrote: float = 0.0  # likewise, for the volume
    flushed: float = 0.0  # seconds in which what was written was brought to the disk
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fetched: int = 0, waited: float = 0.0, wrote: float = 0.0, flushed: float = 0.0) -> None:
        """Add what a thread has done."""
        with self._lock:
            self.fetched += fetched
            self.waited += waited
            self.wrote += wrote
            self.flushed += flushed
