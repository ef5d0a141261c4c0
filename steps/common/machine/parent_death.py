"""Ties a process's life to its parent's."""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1  # of prctl(2)


def signal_on_parent_death(number: signal.Signals) -> None:
    """Ask the kernel to send this process a signal when its parent dies, for whatever reason. Linux only.

    Processes that this one starts do not inherit the setting.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
