"""When a run has to stop on machines that cost nothing more: by its recipe's hours, from when it had them."""

from recipes.compute import Compute


def until(compute: Compute, since: float) -> float:
    """Return the moment in seconds since 1970; 0 where there is no limit."""
    return since + compute.max_hours * 3600 if compute.max_hours else 0.0
