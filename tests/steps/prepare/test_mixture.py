"""A mixture: weights repeat rows or take a part of them, and shares take as many as no row repeats."""

from typing import Any

import numpy
import pytest

from steps.common.handover.resolved import DataSource
from steps.common.runtime.errors import UserError
from steps.prepare.mixture import draw


def drawn(counts: list[int], **parts: list[Any]) -> list[list[int]]:
    """Return how often each row of each source is seen."""
    (key, values), *_ = parts.items()
    sources = [DataSource(source=f"rows {n}", files=[], **{key: value}) for n, value in enumerate(values)]
    source_of = numpy.repeat(numpy.arange(len(counts)), counts)
    times = draw(sources, source_of, numpy.random.default_rng(1).permutation(len(source_of)))
    return [times[source_of == number].tolist() for number in range(len(counts))]


def test_a_weight_says_how_often_each_row_is_seen() -> None:
    once, half, twice, more = drawn([5, 10, 3, 4], weight=[1.0, 0.5, 2.0, 2.5])
    assert once == [1] * 5
    assert sorted(half) == [0] * 5 + [1] * 5
    assert twice == [2] * 3
    assert sorted(more) == [2, 2, 3, 3]


def test_a_source_with_rows_gives_at_least_one() -> None:
    few, none = drawn([10, 0], weight=[0.04, 0.04])
    assert sorted(few) == [0] * 9 + [1]
    assert none == []


@pytest.mark.parametrize(
    ("counts", "shares", "taken"),
    [
        ([100, 100], [0.5, 0.5], [100, 100]),
        ([100, 30], [0.5, 0.5], [30, 30]),
        ([90, 30, 500], [0.6, 0.2, 0.2], [90, 30, 30]),
    ],
)
def test_shares_are_kept_in_the_largest_mixture_without_repetition(
    counts: list[int], shares: list[float], taken: list[int]
) -> None:
    found = drawn(counts, share=shares)
    assert [sum(times) for times in found] == taken
    assert max(max(times) for times in found) == 1


def test_a_source_without_a_row_has_no_share() -> None:
    with pytest.raises(UserError, match=r"data\.train: rows 1 has a share, and no row of it is left"):
        drawn([4, 0], share=[0.5, 0.5])
