"""Does what has to be done from time to time, whether or not anybody asks the API for anything."""

import functools
import logging
import threading
from collections.abc import Callable
from types import TracebackType

LOG = logging.getLogger("fineline.api")


class RepeatedWork:
    """Does a task in a thread of its own, at once and then again and again, for as long as the block lasts.

    A failure is logged.
    """

    def __init__(self, task: Callable[[], None], seconds: float) -> None:
        """Prepare the thread; nothing starts yet.

        Args:
            task: may be interrupted at any moment.
            seconds: between two rounds.
        """
        self._task, self._seconds = task, seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="repeated-work", daemon=True)

    def __enter__(self) -> "RepeatedWork":
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # Not waited for: a volume or a cluster may not answer.
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._task()
            except Exception:
                LOG.exception("%s failed; it is tried again in %.0f s", _name(self._task), self._seconds)
            self._stopping.wait(self._seconds)


def _name(task: Callable[[], None]) -> str:
    # A partial's own text has its arguments, such as the URL of a database with its password.
    while isinstance(task, functools.partial):
        task = task.func
    return str(getattr(task, "__qualname__", type(task).__name__))
