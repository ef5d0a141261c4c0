"""Ends a pool of forked processes when one of them is killed, or when this process is told to end.

A pool of `multiprocess` may wait for ever for what a killed process has not given back: a result, or a lock.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from steps.common.runtime.errors import UserError

SIGNAL = signal.SIGUSR1  # interrupts the main thread
LOOK_SECONDS = 0.05
INTERRUPT_SECONDS = 1.0  # in which a pool that has lost a process may end by itself
ASKED = (signal.SIGTERM, signal.SIGINT)  # what a process is asked to end by, by the pool itself too
LIBRARY_SAYS = "abruptly died"  # in what `datasets` raises when a process of its pool is gone


class _KilledError(BaseException):
    """Ends what the main thread waits for. No library catches it."""


@contextlib.contextmanager
def guarded_pool(message: Callable[[signal.Signals], str]) -> Iterator[None]:
    """Guard a block that uses pools of `multiprocess`, one after the other, and nothing else of `multiprocess`.

    Outside the main thread, a wait for a lock of a killed process cannot be interrupted.

    Args:
        message: returns what to tell about a process that was killed by a signal.

    Raises:
        UserError: a process of a pool was killed. The others are killed too.
        SystemExit: a handler of a signal raised it in the block, whatever the pool made of it.
    """
    watch = _Watch()
    try:
        with watch.watching():
            yield
    except BaseException as error:
        for cause in _causes(error):
            if isinstance(cause, SystemExit | KeyboardInterrupt):
                raise cause from None
        killed = watch.killed_by()
        if not killed and isinstance(error, RuntimeError) and LIBRARY_SAYS in str(error):
            killed = signal.SIGKILL
        if not killed:
            raise
        raise UserError(message(killed)) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those that were being handled when it was raised."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


class _Watch:
    """A thread that looks for killed processes of a pool."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._children: set[Any] = set()
        self._over = threading.Event()
        self._main = threading.main_thread().ident if _in_main_thread() else None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block runs."""
        before = signal.signal(SIGNAL, self._on_signal) if self._main else None
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            if self._main:
                signal.signal(SIGNAL, before)

    def killed_by(self) -> signal.Signals | None:
        """Return the signal that a process was killed by; None: none was."""
        import multiprocess

        self._children.update(multiprocess.active_children())
        for child in self._children:
            if child.exitcode is not None and child.exitcode < 0 and -child.exitcode not in ASKED:
                return signal.Signals(-child.exitcode)
        return None

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            if self.killed_by():
                break
        while not self._over.wait(INTERRUPT_SECONDS):
            for child in self._children:
                with contextlib.suppress(OSError):
                    child.kill()
            if self._main:
                signal.pthread_kill(self._main, SIGNAL)

    def _on_signal(self, *_: object) -> None:
        if not self._over.is_set():
            raise _KilledError


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
