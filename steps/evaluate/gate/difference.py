"""How far two models differ on the same rows, and how far that may be chance.

A paired bootstrap: rows are drawn with replacement, both models keep their values of each drawn row, and the difference
is taken anew (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; for language, Koehn 2004,
https://aclanthology.org/W04-3250). The row is what is drawn, not the token: tokens of one chat are alike. The seed is
fixed, so that the same scores give the same interval.

Of few rows the plain percentile interval is too narrow, by the same factor by which Student's interval is wider than the
normal one; here its quantiles are moved outwards by that factor (Hesterberg 2015, "What Teachers Should Know About the
Bootstrap", the expanded percentile interval, https://arxiv.org/abs/1411.5279).
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy
from numpy.typing import NDArray

from steps.common.handover.report_difference import CONFIDENCE, Difference

RESAMPLES = 10_000
SEED = 17
AT_ONCE = 4_000_000  # numbers drawn together: 32 MB of each array

Values = NDArray[numpy.float64]


def relative_gain(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Return by which share the first model's loss a token lies below the second's.

    Both are sums of nats a row, over the same tokens; the estimate is 1 - sum(first) / sum(second), a ratio of sums,
    since it is tokens that a loss averages. Where a sum is not a number the difference is none either.
    """
    return _interval(first, second, lambda a, b: 1 - a / numpy.where(b > 0, b, numpy.nan))


def mean_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Return by how much the first model's mean value a row lies above the second's; each value is between 0 and 1."""
    rows = max(1, len(first))
    return _interval(first, second, lambda a, b: (a - b) / rows)


def _interval(
    first: Sequence[float], second: Sequence[float], statistic: Callable[[Values, Values], Values]
) -> Difference:
    """Return the statistic of the two sums, and the interval of it over resampled rows."""
    a, b = numpy.asarray(first, dtype=float), numpy.asarray(second, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} and {len(b)} rows cannot be paired")
    rows = len(a)
    with numpy.errstate(invalid="ignore"):
        value = float(statistic(a.sum(keepdims=True), b.sum(keepdims=True))[0]) if rows else 0.0
        if rows < 2:
            return Difference(value=value, low=-math.inf, high=math.inf, rows=rows)
        generator = numpy.random.default_rng(SEED)
        size = max(1, AT_ONCE // rows)
        found = []
        for start in range(0, RESAMPLES, size):
            drawn = generator.integers(0, rows, (min(size, RESAMPLES - start), rows))
            found.append(statistic(a[drawn].sum(axis=1), b[drawn].sum(axis=1)))
        low, high = numpy.quantile(numpy.concatenate(found), _quantiles(rows))
    return Difference(value=value, low=float(low), high=float(high), rows=rows)


def _quantiles(rows: int) -> tuple[float, float]:
    normal = NormalDist()
    z = normal.inv_cdf((1 + CONFIDENCE) / 2)
    below = normal.cdf(-math.sqrt(rows / (rows - 1)) * _student(z, rows - 1))
    return below, 1 - below


def _student(z: float, freedom: int) -> float:
    """Return the quantile of Student's t that belongs to the normal quantile z.

    Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.5: within one per cent from 2 degrees of freedom on.
    """
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * freedom**4)
    )
