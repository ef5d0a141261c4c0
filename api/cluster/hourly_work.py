"""Does what has to be done from time to time, whether or not anybody asks the API for anything."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType

HOUR = 3600.0  # seconds

LOG = logging.getLogger("fineline.api")


class HourlyWork:
    """Does its tasks in a thread of its own, at once and then every hour, for as long as the block lasts.

    A task that fails is logged, and tried again an hour later.
    """

    def __init__(self, *tasks: Callable[[], None], seconds: float = HOUR) -> None:
        """Prepare the thread; nothing starts yet.

        Args:
            tasks: in their order.
            seconds: between two rounds.
        """
        self._tasks, self._seconds = tasks, seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hourly-work", daemon=True)

    def __enter__(self) -> "HourlyWork":
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # Not waited for: a task may be reading from a volume that does not answer, and each can be interrupted.
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for task in self._tasks:
                try:
                    task()
                except Exception:
                    LOG.exception("the hourly work failed; it is tried again in %.0f minutes", self._seconds / 60)
            self._stopping.wait(self._seconds)
