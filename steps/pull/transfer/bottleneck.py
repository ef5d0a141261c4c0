"""What a transfer waited for: the network, the volume, or the processor."""

import time

from steps.common.machine.devices import cores
from steps.pull.transfer.totals import Totals

BUSY = 0.85  # of all cores: then nothing else is to be had from them


class Clock:
    """Time and processor time since a transfer began."""

    def __init__(self) -> None:
        """Begin now."""
        self._began, self._used = time.monotonic(), time.process_time()

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return max(1e-6, time.monotonic() - self._began)

    @property
    def busy(self) -> float:
        """Share of all cores that this process used."""
        return (time.process_time() - self._used) / self.seconds / cores()


def verdict(totals: Totals, clock: Clock, connections: int) -> str:
    """Return what bounded the transfer, with the numbers that say so."""
    all_time = max(1e-6, totals.waited + totals.wrote)
    flushing = totals.flushed / clock.seconds
    if clock.busy > BUSY:
        what = "the processor"
    elif totals.wrote > totals.waited or flushing > 0.5:
        what = "the volume"
    else:
        what = "the network"
    return (
        f"bound by {what}: {connections} connections waited {totals.waited / all_time:.0%} of their time for bytes and "
        f"{totals.wrote / all_time:.0%} for the volume, flushing took {flushing:.0%}, {clock.busy:.0%} of {cores()} cores"
    )
