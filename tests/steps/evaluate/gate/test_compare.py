"""How far two models differ on the same rows: what the intervals cover, and what they say of few rows."""

import math

import numpy
import pytest

from steps.evaluate.gate import difference
from steps.evaluate.gate.difference import mean_difference, relative_gain


def test_the_gain_is_that_of_the_losses_a_token_whatever_the_rows_lengths() -> None:
    gain = relative_gain([1.0, 18.0, 2.0], [2.0, 20.0, 2.0])
    assert gain.value == pytest.approx(1 - 21 / 24)
    assert gain.low <= gain.value <= gain.high


def test_a_model_gains_nothing_over_itself() -> None:
    gain = relative_gain([3.0, 1.0, 2.5], [3.0, 1.0, 2.5])
    assert (gain.value, gain.low, gain.high) == (0, 0, 0)
    assert not gain.better
    assert not gain.worse


def test_where_each_row_gains_the_same_share_there_is_no_doubt() -> None:
    base = [float(nats) for nats in range(1, 40)]
    gain = relative_gain([0.9 * nats for nats in base], base)
    assert (gain.low, gain.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_pairing_finds_what_lies_below_the_spread_of_the_rows() -> None:
    """The rows' losses differ a hundredfold and each gains about a twentieth: unpaired that would be lost."""
    generator = numpy.random.default_rng(5)
    base = generator.uniform(1, 100, 60)
    gain = relative_gain(base * generator.normal(0.95, 0.02, 60), base)
    assert gain.better
    assert gain.high - gain.low < 0.03


def test_the_same_scores_give_the_same_interval() -> None:
    values = numpy.random.default_rng(6).uniform(size=(2, 5000))
    assert relative_gain(values[0], values[1]) == relative_gain(values[0], values[1])


@pytest.mark.parametrize("rows", [5, 10, 40])
def test_the_interval_of_a_gain_covers_the_truth_as_often_as_it_says(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of 5 to 60 tokens whose losses gain 10 % in the mean; with 5 rows a plain percentile interval covers 82 %."""
    monkeypatch.setattr(difference, "RESAMPLES", 1000)
    generator, covered, times = numpy.random.default_rng(3), 0, 500
    for _ in range(times):
        base = generator.integers(5, 60, rows) * generator.gamma(8, 1 / 4, rows)
        gain = relative_gain(base * generator.gamma(30, 0.9 / 30, rows), base)
        covered += gain.low <= 0.1 <= gain.high
    assert 0.90 < covered / times < 0.985


def test_of_two_equal_models_few_seem_better() -> None:
    generator, seem, times = numpy.random.default_rng(4), 0, 300
    for _ in range(times):
        base = generator.gamma(8, 4, 40)
        seem += relative_gain(base * generator.normal(1, 0.1, 40), base).better
    assert seem / times < 0.06


def test_answers_that_are_right_or_wrong_are_compared_pair_by_pair() -> None:
    before = [True] * 60 + [False] * 40
    lost = mean_difference([*[False] * 20, *[True] * 40, *[False] * 40], before)
    assert lost.value == pytest.approx(-0.2)
    assert lost.worse
    assert not mean_difference([False, True, *before[2:]], before).worse


def test_student_s_quantile_is_that_of_the_tables() -> None:
    found = [difference._student(1.959964, freedom) for freedom in (2, 3, 9, 29, 1000)]
    assert found == pytest.approx([4.303, 3.182, 2.262, 2.045, 1.962], rel=0.01)


def test_of_one_row_nothing_is_told_and_of_few_that_they_are_few() -> None:
    alone = relative_gain([1.0], [2.0])
    assert not alone.better
    assert math.isinf(alone.low)
    assert "a single row" in alone.in_words()
    assert "only 4 rows" in relative_gain([1.0] * 4, [2.0] * 4).in_words()
    assert "only" not in relative_gain([1.0] * 40, [2.0] * 40).in_words()


def test_a_loss_that_is_no_number_is_neither_better_nor_worse() -> None:
    gain = relative_gain([math.nan, 1.0], [1.0, 1.0])
    assert not gain.better
    assert not gain.worse


def test_rows_that_are_not_the_same_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="3 and 2 rows"):
        relative_gain([1.0, 2.0, 3.0], [1.0, 2.0])
