"""Totals of a transfer, added up by its threads."""

import threading
from dataclasses import dataclass, field


@dataclass
class Totals:
    """Bytes and seconds of a transfer."""

    fetched: int = 0  # bytes, including those that turned out to be wrong
    waited: float = 0.0  # seconds that all connections together waited for bytes
    wrote: float = 0.0  # seconds that they spent writing
    flushed: float = 0.0  # seconds spent flushing to disk
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fetched: int = 0, waited: float = 0.0, wrote: float = 0.0, flushed: float = 0.0) -> None:
        """Add what a thread has done."""
        with self._lock:
            self.fetched += fetched
            self.waited += waited
            self.wrote += wrote
            self.flushed += flushed
