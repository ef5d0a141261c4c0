"""The gate on preferences: a candidate must do better than chance, the gate's threshold, and the champion."""

import math

import pytest

from recipes.evaluation import Gate, Question
from steps.evaluate.gate.comparison import Champion, compare
from steps.evaluate.gate.gate import Verdict, judge
from steps.evaluate.scores.pair_accuracy import pair_accuracy
from steps.evaluate.scores.score import Score

BETA = 0.1


def scored(*pairs: tuple[float, float], answers: list[str] | None = None) -> Score:
    """A score on pairs, given the log-probability of each side."""
    chosen, rejected = [-one for one, _ in pairs], [-other for _, other in pairs]
    count = len(pairs)
    return Score(nats=chosen, labelled=[10] * count, right=[5] * count, answers=answers or [], rejected=rejected)


def judged(
    before: Score, candidate: Score, champion: Score | None = None, questions: list[Question] | None = None
) -> Verdict:
    compared = compare(before, candidate, champion, [], 0, [], BETA)
    return judge(Gate(), before, candidate, Champion(1, champion) if champion else None, compared, questions or [])


def preferring(right: int, of: int) -> Score:
    """A model that finds `right` of the chosen answers 10 nats more likely than the base, the others 5 nats less likely."""
    return scored(*[(-20.0, -30.0)] * right, *[(-35.0, -30.0)] * (of - right))


def base(count: int) -> Score:
    return scored(*[(-30.0, -30.0)] * count)


def test_margin_accuracy_and_loss_follow_from_the_rewards() -> None:
    found = pair_accuracy(preferring(3, 4), base(4), BETA)
    assert (found.pairs, found.preference_accuracy) == (4, 0.75)
    assert found.preference_margin == pytest.approx((3 * 1.0 - 0.5) / 4)
    assert found.preference_loss == pytest.approx((3 * math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(0.5))) / 4)


def test_rewards_are_relative_to_the_base() -> None:
    longer_is_less_likely = scored((-90.0, -10.0))
    assert pair_accuracy(scored((-85.0, -10.0)), longer_is_less_likely, BETA).preference_accuracy == 1.0


def test_a_model_that_prefers_nothing_has_an_accuracy_of_0_and_a_loss_of_log_2() -> None:
    found = pair_accuracy(base(5), base(5), BETA)
    assert found.preference_accuracy == 0.0
    assert found.preference_loss == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("right", "of", "passed", "words"),
    [
        (90, 100, True, "in 90.0% of 100 held-out pairs"),
        (52, 100, False, "in 52.0% of 100 held-out pairs; the gate requires 55.0%"),
        (60, 100, True, "60.0%"),
        (4, 6, False, "which may be chance with so few (lower bound 34.7%); hold out more"),
        (6, 6, True, "in 100.0% of 6"),
        (2, 2, False, "hold out more"),
    ],
)
def test_an_accuracy_must_reach_the_threshold_and_exceed_chance(right: int, of: int, passed: bool, words: str) -> None:
    verdict = judged(base(of), preferring(right, of))
    assert verdict.passed is passed
    assert words in verdict.in_words()


def test_the_loss_of_the_chosen_answers_may_rise() -> None:
    worse = scored(*[(-40.0, -60.0)] * 100)
    assert worse.loss > base(100).loss
    assert judged(base(100), worse).passed


def test_a_model_that_computes_nan_is_refused() -> None:
    assert not judged(base(3), scored(*[(math.nan, math.nan)] * 3)).passed


@pytest.mark.parametrize(
    ("right", "passed", "words"), [(60, False, "worse than"), (89, False, "no better than"), (99, True, "better than")]
)
def test_a_candidate_must_beat_the_champion_beyond_noise(right: int, passed: bool, words: str) -> None:
    verdict = judged(base(100), preferring(right, 100), preferring(90, 100))
    assert verdict.passed is passed
    assert f"{words} version 1" in verdict.in_words()
    assert f"{right}.0% of pairs against 90.0%" in verdict.in_words()


def test_lost_answers_are_refused_with_pairs_too() -> None:
    asked = [Question(ask="capital?", expect="Paris")]
    before, after = base(100), preferring(90, 100)
    answered = before.model_copy(update={"answers": ["Paris"]}), after.model_copy(update={"answers": ["Rome"]})
    verdict = judged(*answered, questions=asked)
    assert not verdict.passed
    assert "no longer answers as expected" in verdict.in_words()
