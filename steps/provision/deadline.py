"""When a run on hardware that costs nothing more has to stop: max_hours after it got the hardware."""

from recipes.compute import Compute


def until(compute: Compute, since: float) -> float:
    """Return the deadline in seconds since 1970; 0: there is none."""
    return since + compute.max_hours * 3600 if compute.max_hours else 0.0
