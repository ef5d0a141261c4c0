"""What ends a training besides its last step: a limit of money or time, and a machine that computes nothing."""

import os
import sys
import threading
import time
from dataclasses import dataclass, field

from steps.common.runtime.exit_codes import write_termination_message

FAULT = 1
LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """What a training must keep to."""

    until: float = 0.0  # seconds since 1970; 0: no limit

    def reached(self) -> bool:
        """Tell whether the limit of money or time is reached."""
        return bool(self.until) and time.time() > self.until


@dataclass
class Watchdog:
    """Ends this process when nothing has been computed for too long.

    A GPU that has failed, or a volume that does not answer, leaves the main thread inside a call that no signal ends; so
    this does not raise, it exits.
    """

    idle_seconds: float
    _beaten: float = field(default_factory=time.monotonic)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Watchdog":
        if self.idle_seconds:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def beat(self) -> None:
        """Say that something has been computed."""
        self._beaten = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(min(LOOK_SECONDS, self.idle_seconds / 4)):
            idle = time.monotonic() - self._beaten
            if idle > self.idle_seconds:
                text = (
                    f"tune: nothing was computed for {idle / 60:.0f} min (compute.idle_minutes); the checkpoint is kept. "
                    "Look at the node's GPU and at the volumes; the same recipe, submitted again, goes on from there"
                )
                write_termination_message(text)
                print(f"error: {text}", file=sys.stderr, flush=True)
                os._exit(FAULT)
