"""Determines what limited a transfer: the network, the volume, or the processor."""

import time

from steps.common.machine.devices import cores
from steps.pull.transfer.totals import Totals

BUSY = 0.85  # share of all cores above which the processor is the limit


class Clock:
    """Wall time and processor time of a transfer."""

    def __init__(self) -> None:
        """Start now."""
        self._began, self._used = time.monotonic(), time.process_time()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return max(1e-6, time.monotonic() - self._began)

    @property
    def busy(self) -> float:
        """Share of all cores that this process has used."""
        return (time.process_time() - self._used) / self.seconds / cores()


def verdict(totals: Totals, clock: Clock, connections: int) -> str:
    """Return what limited the transfer, with the figures that show it."""
    all_time = max(1e-6, totals.waited + totals.wrote)
    flushing = totals.flushed / clock.seconds
    if clock.busy > BUSY:
        what = "the processor"
    elif totals.wrote > totals.waited or flushing > 0.5:
        what = "the volume"
    else:
        what = "the network"
    return (
        f"bound by {what}: {connections} connections spent {totals.waited / all_time:.0%} of their time waiting for bytes and "
        f"{totals.wrote / all_time:.0%} writing, flushing took {flushing:.0%}, {clock.busy:.0%} of {cores()} cores used"
    )
