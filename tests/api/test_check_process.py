"""What the process that checks a recipe says, and what happens when it takes too much.

The process executes this file.
"""

import os
import signal
import sys
import time

import pytest

from api.api_settings import DATABASE_SETTING
from api.check_process import MIB, CheckLimits, answer, checked_apart
from steps.common.runtime.errors import UnreachableError, UserError

LIMITS = CheckLimits(seconds=300, memory=256 * MIB)


def check(recipe: str) -> str:
    """Do what the text of the recipe says."""
    if recipe == "wrong":
        raise UserError("data.train: there are\nno rows")
    if recipe == "unreachable":
        raise UnreachableError("the hub does not answer")
    if recipe == "large":
        bytearray(1 << 30)
    if recipe == "aborts":
        os.abort()
    if recipe.startswith("SIG"):
        if recipe != "SIGKILL":
            signal.signal(signal.Signals[recipe], signal.SIG_DFL)  # a shell's background processes ignore Ctrl-C
        os.kill(os.getpid(), signal.Signals[recipe])
    if recipe == "slow":
        time.sleep(600)
    if recipe == "faulty":
        raise ValueError("a fault of ours")
    return f"{recipe} {DATABASE_SETTING in os.environ} {'--quick' in sys.argv}"


def told(recipe: str, *options: str, limits: CheckLimits = LIMITS) -> str:
    return checked_apart(__name__, recipe, limits, *options)


def test_it_answers_and_does_not_know_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATABASE_SETTING, "sqlite:////nowhere/api.db")
    assert told("as asked", "--quick") == "as asked False True"


def test_its_refusals_are_one_line() -> None:
    with pytest.raises(UserError, match=r"^data\.train: there are no rows$"):
        told("wrong")
    with pytest.raises(UnreachableError, match=r"^the hub does not answer$"):
        told("unreachable")
    with pytest.raises(RuntimeError, match="a fault of ours"):
        told("faulty")


@pytest.mark.parametrize("recipe", ["large", "aborts"])
def test_a_check_that_takes_too_much_memory_is_a_refusal(recipe: str) -> None:
    with pytest.raises(UserError, match="takes more than 256 MiB of memory"):
        told(recipe)


def test_a_check_that_the_kernel_kills_is_a_refusal_without_a_limit_too() -> None:
    with pytest.raises(
        UserError, match=r"^checking the recipe needs too much memory; use shorter rows or fewer files$"
    ):
        told("SIGKILL", limits=CheckLimits(seconds=300))


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("limits", [LIMITS, CheckLimits(seconds=300)])
def test_a_check_that_is_stopped_may_be_tried_again(number: str, limits: CheckLimits) -> None:
    with pytest.raises(UnreachableError, match=r"^the server has stopped checking the recipe; try again$"):
        told(number, limits=limits)


def test_a_check_that_takes_too_long_is_ended() -> None:
    with pytest.raises(UnreachableError, match="takes more than"):
        told("slow", limits=CheckLimits(seconds=1))


if __name__ == "__main__":
    sys.exit(answer(check))
