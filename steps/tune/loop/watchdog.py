"""Ends a process that has stopped computing."""

import os
import sys
import threading
import time
from dataclasses import dataclass, field

from steps.common.runtime.exit_codes import write_termination_message

FAULT = 1  # exit code
CHECK_SECONDS = 5.0


@dataclass
class Watchdog:
    """Ends this process when it has computed nothing for too long.

    A failed GPU, or a volume that does not respond, leaves the main thread inside a call that no signal interrupts. So the
    watchdog does not raise, it exits.
    """

    idle_seconds: float  # 0: never
    _last_beat: float = field(default_factory=time.monotonic)
    _closed: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Watchdog":
        if self.idle_seconds:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    def beat(self) -> None:
        """Report that something has been computed."""
        self._last_beat = time.monotonic()

    def _watch(self) -> None:
        while not self._closed.wait(min(CHECK_SECONDS, self.idle_seconds / 4)):
            idle = time.monotonic() - self._last_beat
            if idle > self.idle_seconds:
                text = (
                    f"tune: nothing was computed for {idle / 60:.0f} min (compute.idle_minutes); check the node's GPU and "
                    "the volumes, then submit the same recipe again to resume from the last checkpoint"
                )
                write_termination_message(text)
                print(f"error: {text}", file=sys.stderr, flush=True)
                os._exit(FAULT)
