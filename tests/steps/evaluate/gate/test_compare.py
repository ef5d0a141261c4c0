"""Differences between two models on the same rows: what the intervals cover, and what they state for few rows."""

import math

import numpy
import pytest

from steps.evaluate.gate import difference
from steps.evaluate.gate.difference import mean_difference, relative_gain


def test_the_gain_is_in_loss_per_token_whatever_the_lengths_of_the_rows() -> None:
    gain = relative_gain([1.0, 18.0, 2.0], [2.0, 20.0, 2.0])
    assert gain.value == pytest.approx(1 - 21 / 24)
    assert gain.low <= gain.value <= gain.high


def test_a_model_gains_nothing_over_itself() -> None:
    gain = relative_gain([3.0, 1.0, 2.5], [3.0, 1.0, 2.5])
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)
    assert not gain.better
    assert not gain.worse


def test_if_each_row_gains_the_same_share_the_interval_is_a_point() -> None:
    base = [float(nats) for nats in range(1, 40)]
    gain = relative_gain([0.9 * nats for nats in base], base)
    assert (gain.low, gain.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_pairing_finds_a_gain_that_is_smaller_than_the_spread_of_the_rows() -> None:
    """The rows' losses differ a hundredfold and each gains about a twentieth: unpaired, the gain would be lost."""
    generator = numpy.random.default_rng(5)
    base = generator.uniform(1, 100, 60)
    gain = relative_gain(list(base * generator.normal(0.95, 0.02, 60)), list(base))
    assert gain.better
    assert gain.high - gain.low < 0.03


def test_the_same_scores_give_the_same_interval() -> None:
    values = numpy.random.default_rng(6).uniform(size=(2, 5000)).tolist()
    assert relative_gain(values[0], values[1]) == relative_gain(values[0], values[1])


@pytest.mark.parametrize("rows", [5, 10, 40])
def test_the_interval_covers_the_true_gain_as_often_as_it_states(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 5 to 60 tokens whose losses gain 10% on average; with 5 rows a plain percentile interval covers 82%."""
    monkeypatch.setattr(difference, "RESAMPLES", 1000)
    generator, covered, times = numpy.random.default_rng(3), 0, 500
    for _ in range(times):
        base = generator.integers(5, 60, rows) * generator.gamma(8, 1 / 4, rows)
        gain = relative_gain(list(base * generator.gamma(30, 0.9 / 30, rows)), list(base))
        covered += gain.low <= 0.1 <= gain.high
    assert 0.90 < covered / times < 0.985


def test_equal_models_seldom_seem_better() -> None:
    generator, seem, times = numpy.random.default_rng(4), 0, 300
    for _ in range(times):
        base = generator.gamma(8, 4, 40)
        seem += relative_gain(list(base * generator.normal(1, 0.1, 40)), list(base)).better
    assert seem / times < 0.06


def test_right_and_wrong_answers_are_compared_pair_by_pair() -> None:
    before = [True] * 60 + [False] * 40
    lost = mean_difference([*[False] * 20, *[True] * 40, *[False] * 40], before)
    assert lost.value == pytest.approx(-0.2)
    assert lost.worse
    assert not mean_difference([False, True, *before[2:]], before).worse


def test_students_quantiles_agree_with_tables() -> None:
    found = [difference._student(1.959964, freedom) for freedom in (2, 3, 9, 29, 1000)]
    assert found == pytest.approx([4.303, 3.182, 2.262, 2.045, 1.962], rel=0.01)


def test_one_row_gives_no_interval_and_few_rows_a_warning() -> None:
    alone = relative_gain([1.0], [2.0])
    assert not alone.better
    assert math.isinf(alone.low)
    assert "a single row" in alone.in_words()
    assert "only 4 rows" in relative_gain([1.0] * 4, [2.0] * 4).in_words()
    assert "only" not in relative_gain([1.0] * 40, [2.0] * 40).in_words()


def test_a_loss_that_is_nan_is_neither_better_nor_worse() -> None:
    gain = relative_gain([math.nan, 1.0], [1.0, 1.0])
    assert not gain.better
    assert not gain.worse


def test_different_numbers_of_rows_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="3 and 2 rows"):
        relative_gain([1.0, 2.0, 3.0], [1.0, 2.0])
