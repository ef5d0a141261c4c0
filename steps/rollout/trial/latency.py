"""Latencies: their 95th percentile, and whether a new version's is too slow."""

import math

# Nobody minds so much more, whatever the factor: short answers differ by as much from one moment to the next.
NOT_MINDED_SECONDS = 0.5


def percentile(seconds: list[float], share: float = 0.95) -> float:
    """Return the value that so large a share of them does not exceed."""
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def of_histogram(buckets: dict[float, float], share: float = 0.95) -> float | None:
    """Return a percentile of a Prometheus histogram, linear within its bucket; None where nothing was counted.

    Args:
        buckets: how many did not exceed each bound, as Prometheus counts them.
        share: of the percentile.
    """
    total = max(buckets.values(), default=0)
    if not total:
        return None
    wanted, low, below = share * total, 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= wanted:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (wanted - below) / (count - below)
        low, below = bound, count
    return low


def too_slow(new: list[float], old: list[float], factor: float) -> str:
    """Return in words why the new version is too slow; empty where it is not, or nothing tells."""
    if not new or not old:
        return ""
    return slower(percentile(new), percentile(old), factor)


def slower(new: float, old: float, factor: float) -> str:
    """Likewise, of two percentiles in seconds."""
    if new <= factor * old or new - old <= NOT_MINDED_SECONDS:
        return ""
    return (
        f"it takes {new:.2f} s where the old version took {old:.2f} s (95th percentile), "
        f"more than serve.watch_latency_factor, {factor:g}, times as long"
    )
