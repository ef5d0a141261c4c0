"""Work that takes seconds to minutes, such as a check of every row of a file."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, Unpack

import anyio
from anyio.to_thread import run_sync

from api.openai_errors import ApiError

AT_ONCE, MOST_WAITING = 2, 16
WAIT_SECONDS = 30  # for a client that is sent away

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class SlowWork:
    """One kind of slow work, in threads of its own, so that the threads for all other requests stay free."""

    def __init__(self, kind: str) -> None:
        """Prepare the threads.

        Args:
            kind: of the work, in the plural, for the message to a client that is sent away.
        """
        self._kind = kind
        self._threads = anyio.CapacityLimiter(AT_ONCE)

    @property
    def waiting(self) -> int:
        """How many wait for a thread."""
        return self._threads.statistics().tasks_waiting

    def refusal(self) -> ApiError | None:
        """Return the answer for a client that has to try again later, because too many wait already; None if there is room."""
        waiting = self.waiting
        if waiting < MOST_WAITING:
            return None
        return ApiError(
            503,
            f"{waiting} {self._kind} are already waiting; try again in {WAIT_SECONDS} seconds",
            code="overloaded",
            wait_seconds=WAIT_SECONDS,
        )

    async def run(self, work: Callable[[Unpack[Arguments]], T], *arguments: *Arguments) -> T:
        """Do some work when a thread is free, and return its result.

        Raises:
            ApiError: too many wait already.
        """
        if refusal := self.refusal():
            raise refusal
        return await run_sync(work, *arguments, limiter=self._threads)
