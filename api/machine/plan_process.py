"""Plans a recipe in a separate process, so that what a plan loads and measures, such as a GPU's speed, ends with it."""

import sys

from api.check_process import CheckLimits, answer, checked_apart
from steps.common.handover.resolved import Resolved
from steps.common.runtime.errors import UserError

BUSY = "--busy"
LONGEST_SECONDS = 1800.0  # to read the data of a recipe, and to try its lm-eval tasks


def planned(recipe: str, *, busy: bool) -> Resolved | None:
    """Return the plan of a recipe; None if it cannot be made while the machine is busy.

    Args:
        recipe: as text.
        busy: a run takes memory that will be free again.

    Raises:
        UserError: a run of it would fail.
        UnreachableError: something that the plan needs did not answer.
    """
    text = checked_apart(__name__, recipe, CheckLimits(LONGEST_SECONDS), *([BUSY] if busy else []))
    return Resolved.read(text, "the plan") if text else None


def _plan(recipe: str) -> str:
    """Return the plan of a recipe as JSON; empty if it cannot be made yet."""
    from steps.plan.quote.this_machine import TooLittleMemoryError
    from steps.plan.step import PlanInput, resolve

    busy = BUSY in sys.argv
    try:
        return resolve(PlanInput(recipe=recipe)).model_dump_json()
    except UserError as error:
        if not (busy and isinstance(error, TooLittleMemoryError)):
            raise
    except RuntimeError as error:
        if not (busy and type(error).__name__ == "OutOfMemoryError"):  # torch's, which need not be loaded
            raise
    return ""


if __name__ == "__main__":
    sys.exit(answer(_plan))
