"""A process that ends with the one that started it, however that one went."""

import ctypes
import signal
import sys

DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def signal_on_parent_death(how: signal.Signals) -> None:
    """Ask the kernel for a signal to this process when its parent is gone; on Linux alone.

    It holds for the process that asks, not for those that it starts.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, how)
