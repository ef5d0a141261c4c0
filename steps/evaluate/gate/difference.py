"""Computes how much two models differ on the same rows, and how much of that may be chance.

A paired bootstrap: rows are drawn with replacement, both models keep their values on each drawn row, and the difference is
computed again (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; for language, Koehn 2004,
https://aclanthology.org/W04-3250). Rows are drawn, not tokens, because the tokens of one chat are alike. The seed is fixed,
so that the same scores give the same interval.

With few rows the plain percentile interval is too narrow, by the factor by which Student's interval is wider than the normal
one. The quantiles are moved outwards by that factor (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", the
expanded percentile interval, https://arxiv.org/abs/1411.5279).
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy
from numpy.typing import NDArray

from steps.common.handover.report_difference import CONFIDENCE, Difference

RESAMPLES = 10_000
SEED = 17
CHUNK = 4_000_000  # numbers drawn at once: 32 MB per array

Values = NDArray[numpy.float64]


def relative_gain(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Return by what share the first model's loss per token is lower than the second's.

    Args:
        first: nats of each row, summed over its tokens.
        second: likewise, over the same tokens.

    Returns:
        1 - sum(first) / sum(second), a ratio of sums because a loss averages over tokens; NaN if a sum is NaN.
    """
    return _interval(first, second, lambda a, b: 1 - a / numpy.where(b > 0, b, numpy.nan))


def mean_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Return by how much the first model's mean over rows is higher than the second's; values are between 0 and 1."""
    rows = max(1, len(first))
    return _interval(first, second, lambda a, b: (a - b) / rows)


def _interval(
    first: Sequence[float], second: Sequence[float], statistic: Callable[[Values, Values], Values]
) -> Difference:
    """Return the statistic of the two sums, and its interval over resampled rows."""
    a, b = numpy.asarray(first, dtype=float), numpy.asarray(second, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} and {len(b)} rows cannot be paired")
    rows = len(a)
    with numpy.errstate(invalid="ignore"):
        value = float(statistic(a.sum(keepdims=True), b.sum(keepdims=True))[0]) if rows else 0.0
        if rows < 2:
            return Difference(value=value, low=-math.inf, high=math.inf, rows=rows)
        generator = numpy.random.default_rng(SEED)
        size = max(1, CHUNK // rows)
        samples = []
        for start in range(0, RESAMPLES, size):
            drawn = generator.integers(0, rows, (min(size, RESAMPLES - start), rows))
            samples.append(statistic(a[drawn].sum(axis=1), b[drawn].sum(axis=1)))
        low, high = numpy.quantile(numpy.concatenate(samples), _quantiles(rows))
    return Difference(value=value, low=float(low), high=float(high), rows=rows)


def _quantiles(rows: int) -> tuple[float, float]:
    normal = NormalDist()
    z = normal.inv_cdf((1 + CONFIDENCE) / 2)
    below = normal.cdf(-math.sqrt(rows / (rows - 1)) * _student(z, rows - 1))
    return below, 1 - below


def _student(z: float, freedom: int) -> float:
    """Return the quantile of Student's t that corresponds to the normal quantile z.

    Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.5: within one percent from 2 degrees of freedom on.
    """
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * freedom**4)
    )
