"""Deadlines of the steps in a cluster, and what a recipe asks for that would outlast them.

A step whose deadline has passed is ended and not retried. So a recipe whose own limits are longer is refused by the plan.
"""

from recipes.recipe import Recipe
from recipes.serving import Serve
from steps.common.runtime.errors import UserError

TUNE_HOURS, EVALUATE_HOURS = 72, 12
# A watch window may take a day.
ROLLOUT_HOURS = 30

# What a server takes to start if the recipe does not say: the estimate for 180 GB on a slow volume, and for its pod.
LONGEST_START_SECONDS = 7200.0
PLACE_SECONDS = 300.0


def rollout_seconds(serve: Serve) -> float:
    """Return how long a rollout takes at most.

    The new server starts and, if it is refused, the old one starts again. A slow answer is waited for, at most, before the
    old server stops, in the live gate, and at the end of the watch window.
    """
    start = PLACE_SECONDS + (serve.ready_seconds or LONGEST_START_SECONDS)
    return 2 * start + serve.watch_seconds + 3 * serve.answer_seconds


def check_rollout(recipe: Recipe) -> None:
    """Check that a rollout ends before its deadline.

    Raises:
        UserError: it would not.
    """
    serve, needed = recipe.serve, rollout_seconds(recipe.serve)
    if serve.enabled and needed > ROLLOUT_HOURS * 3600:
        raise UserError(
            f"serve: a rollout may take {ROLLOUT_HOURS} h, and this one up to {needed / 3600:.1f} h, with ready_seconds "
            f"{serve.ready_seconds}, watch_seconds {serve.watch_seconds:g} and answer_seconds {serve.answer_seconds}; "
            "lower the largest"
        )


def outlasted(minutes: dict[str, float]) -> str:
    """Return which step would outlast its deadline; empty if none.

    Args:
        minutes: the quote's minutes by step.
    """
    for step, limit in (("tune", TUNE_HOURS), ("evaluate", EVALUATE_HOURS)):
        if minutes[step] > limit * 60:
            return f"{step} may take {limit} h in a cluster, and would take {minutes[step] / 60:.1f} h"
    return ""
