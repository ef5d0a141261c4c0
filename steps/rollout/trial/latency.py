"""Latencies: the 95th percentile, and whether a new version is too slow."""

import math

# Differences up to this are ignored, whatever the factor: short answers vary as much by chance.
NOT_MINDED_SECONDS = 0.5


def percentile(seconds: list[float], share: float = 0.95) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def of_histogram(buckets: dict[float, float], share: float = 0.95) -> float | None:
    """Return a percentile of a Prometheus histogram, interpolated linearly in its bucket; None if it is empty.

    Args:
        buckets: by upper bound, the cumulative counts.
        share: of the percentile, from 0 to 1.
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
    """Return in words why the new version is too slow; empty if it is not, or if either has no measurements."""
    if not new or not old:
        return ""
    return slower(percentile(new), percentile(old), factor)


def slower(new: float, old: float, factor: float) -> str:
    """Return the same for two percentiles in seconds."""
    if new <= factor * old or new - old <= NOT_MINDED_SECONDS:
        return ""
    return (
        f"it is too slow: {new:.2f} s against {old:.2f} s of the old version (95th percentile), "
        f"more than serve.watch_latency_factor, {factor:g}, times as long"
    )
