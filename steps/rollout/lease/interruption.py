"""Ends what a process is waiting for as soon as it has lost its right."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

SIGNAL = signal.SIGUSR1


@contextlib.contextmanager
def interruption(check: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Yield a function that another thread calls to raise, in the main thread, what `check` raises.

    Outside the main thread nothing is interrupted: there `check`, called before the next write, raises.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    active = threading.Event()
    main = threading.main_thread().ident

    def interrupt() -> None:
        if active.is_set() and main is not None:
            signal.pthread_kill(main, SIGNAL)

    def on_signal(*_: object) -> None:
        if active.is_set():
            check()

    before = signal.signal(SIGNAL, on_signal)
    active.set()
    try:
        yield interrupt
    finally:
        active.clear()
        signal.signal(SIGNAL, before)
