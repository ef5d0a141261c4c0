"""The right to change what serves under a model's name: one process at a time, and a rollback before a rollout.

The holder has a fence, a number that rises with each holder. It looks before each write whether it still holds the right.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

from steps.common.runtime.errors import InterruptedStepError, RefusedError

PURPOSE, VERSION = "fineline.dev/purpose", "fineline.dev/version"


class Purpose(StrEnum):
    """What a process wants the right for."""

    ROLLOUT = "rollout"
    ROLLBACK = "rollback"
    RECOVERY = "recovery"


class TakenOverError(RefusedError):
    """A rollback has taken the right from this process, which changes nothing any more."""


class BusyError(Exception):
    """A living process holds the right."""


class ServingLease(Protocol):
    """The right, held."""

    fence: int
    taken_from: int  # the version whose rollout this rollback has taken over from; 0: none

    def check(self) -> None:
        """Raise if another process holds the right. Called before each write.

        Raises:
            TakenOverError: a rollback has taken it.
            InterruptedStepError: this process stood still until another one took it.
        """


def lost(model: str, notes: Mapping[str, Any]) -> RefusedError | InterruptedStepError:
    """Return the error of a process that has lost the right.

    Args:
        model: name of the model.
        notes: what the new holder has noted, PURPOSE and VERSION.
    """
    if notes.get(PURPOSE) == Purpose.ROLLBACK:
        return TakenOverError(f"a rollback of {model} to version {notes[VERSION]} took over")
    return InterruptedStepError(f"another rollout of {model} took over, because this one stood still")
