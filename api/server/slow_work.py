"""Work that takes seconds to minutes, such as a check of every row of a file."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TypeVar, TypeVarTuple, Unpack

import anyio
from anyio.to_thread import run_sync

from api.openai_errors import ApiError

AT_ONCE = 2
MOST_OF_A_TEAM = 4  # that are under way or wait
WAIT_SECONDS = 30  # for a client that is sent away

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class SlowWork:
    """One kind of slow work, in threads of its own, so that the threads for all other requests stay free.

    Each team may have a few at a time, so no team can take the places of the others.
    """

    def __init__(self, kind: str, at_once: int = AT_ONCE, *, one_of_a_team: bool = False) -> None:
        """Prepare the threads.

        Args:
            kind: of the work, in the plural, for the message to a client that is sent away.
            at_once: how many are done at once.
            one_of_a_team: do only one of a team at once; the others of the team wait without a thread.
        """
        self._kind = kind
        self._threads = anyio.CapacityLimiter(at_once)
        self._one_of_a_team = one_of_a_team
        self._of_teams = Counter[str]()
        self._turns: dict[str, anyio.Lock] = {}

    @property
    def waiting(self) -> int:
        """How many wait for a thread."""
        return self._threads.statistics().tasks_waiting

    def refusal(self, team: str) -> ApiError | None:
        """Return the answer for a team that has to try again later, because it has too many; None if there is room."""
        count = self._of_teams[team]
        if count < MOST_OF_A_TEAM:
            return None
        return ApiError(
            503,
            f"{count} {self._kind} of the team are under way or waiting; try again in {WAIT_SECONDS} seconds",
            code="overloaded",
            wait_seconds=WAIT_SECONDS,
        )

    async def run(self, team: str, work: Callable[[Unpack[Arguments]], T], *arguments: *Arguments) -> T:
        """Do some work of a team when a thread is free, and return its result.

        Raises:
            ApiError: the team has too many already.
        """
        if refusal := self.refusal(team):
            raise refusal
        async with self._counted(team):
            return await run_sync(work, *arguments, limiter=self._threads)

    @contextlib.asynccontextmanager
    async def _counted(self, team: str) -> AsyncIterator[None]:
        self._of_teams[team] += 1
        try:
            if self._one_of_a_team:
                async with self._turns.setdefault(team, anyio.Lock()):
                    yield
            else:
                yield
        finally:
            self._of_teams[team] -= 1
            if not self._of_teams[team]:
                del self._of_teams[team]
                self._turns.pop(team, None)
