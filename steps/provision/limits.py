"""When a run has to stop: by its recipe's limits of time and money, reckoned from when its machine was there."""

from recipes.recipe import Compute
from steps.common.resolved import Rung


def until(compute: Compute, rung: Rung, since: float) -> float:
    """Return the moment at which a limit is reached, in seconds since 1970; 0 where there is none."""
    ends = []
    if compute.max_hours:
        ends.append(since + compute.max_hours * 3600)
    price = rung.price or rung.price_at_most
    if compute.max_cost and price:
        ends.append(since + compute.max_cost / price * 3600)
    return min(ends, default=0.0)
