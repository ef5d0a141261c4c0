"""When a run has to stop: by its recipe's limits of time and money, reckoned from when its machine was there."""

from recipes.recipe import Compute
from steps.common.resolved import Rung


def until(compute: Compute, rung: Rung, since: float) -> float:
    """Return the moment at which a limit is reached, in seconds since 1970; 0 where there is none."""
    ends = []
    if compute.max_hours:
        ends.append(since + compute.max_hours * 3600)
    if compute.max_cost and rung.price:
        ends.append(since + compute.max_cost / rung.price * 3600)
    return min(ends, default=0.0)
