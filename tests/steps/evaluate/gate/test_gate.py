"""The gate: what it passes, what it refuses, and that each refusal states its reason."""

from typing import Any

import numpy

from recipes.evaluation import Gate, Question, Task
from steps.common.rows.conversation import Conversation, Message
from steps.evaluate.gate.comparison import Champion, compare
from steps.evaluate.gate.gate import Verdict, judge
from steps.evaluate.scores.score import Score
from steps.evaluate.scores.task_rows import TaskRows

ROWS = 40
SPREAD = numpy.random.default_rng(1).normal(0, 0.05, ROWS)


def score(
    loss: float, *, noise: float = 0.0, general: int = 80, answers: tuple[str, ...] = (), rows: int = ROWS
) -> Score:
    """A model whose rows of 10 tokens have that loss on average, each off by `noise` times 5%."""
    nats = [10 * loss * (1 + noise * float(off)) for off in SPREAD[:rows] - SPREAD[:rows].mean()]
    right = [number < general for number in range(100)]
    return Score(nats=nats, labelled=[10] * rows, right=[5] * rows, answers=list(answers), general=right)


def verdict(
    base: Score, candidate: Score, champion: Champion | None = None, tasks: list[TaskRows] | None = None, **gate: Any
) -> Verdict:
    found = compare(base, candidate, champion.score if champion else None, tasks or [], 0, [], 0.1)
    questions = [] if tasks else [Question(ask="capital?", expect="Paris")]
    return judge(Gate(**gate), base, candidate, champion, found, questions)


def test_a_clear_gain_passes_and_is_stated() -> None:
    judged = verdict(score(2.0), score(1.0, noise=1))
    assert judged.passed
    assert judged.in_words().startswith("passed: held-out loss 1.000 against the base's 2.000: +50.0%")
    assert "95% interval" in judged.in_words()


def test_a_gain_below_the_threshold_is_refused_even_if_certain() -> None:
    judged = verdict(score(2.0), score(1.98), better_than_base=0.02)
    assert not judged.passed
    assert "the gate requires 2.0%" in judged.in_words()


def test_a_gain_over_the_threshold_is_refused_if_it_may_be_noise() -> None:
    judged = verdict(score(2.0), score(1.95, noise=4), better_than_base=0.02)
    assert not judged.passed
    assert "may be noise" in judged.in_words()


def test_a_refusal_with_few_rows_advises_to_hold_out_more() -> None:
    judged = verdict(score(2.0, rows=4), score(1.9, noise=9, rows=4))
    assert "only 4 rows" in judged.in_words()
    assert "hold out more rows" in judged.in_words()


def test_an_equal_one_does_not_replace_the_champion() -> None:
    judged = verdict(score(2.0), score(1.003, noise=1), Champion(3, score(1.0)))
    assert not judged.passed
    assert judged.in_words().startswith(
        "refused: no better than version 3 within noise: held-out loss 1.003 against 1.000"
    )


def test_a_gain_that_another_seed_may_bring_does_not_replace_the_champion() -> None:
    champion = Champion(3, score(1.0))
    judged = verdict(score(2.0), score(0.985), champion)
    assert "not sufficiently better than version 3" in judged.in_words()
    assert "the gate requires 2.0%" in judged.in_words()
    assert verdict(score(2.0), score(0.985), champion, better_than_champion=0.01).passed


def test_an_equal_one_replaces_the_champion_if_the_gate_allows_it() -> None:
    judged = verdict(score(2.0), score(1.003, noise=1), Champion(3, score(1.0)), worse_than_champion=0.05)
    assert judged.passed
    assert "at most 5.0% worse than version 3, as the gate allows" in judged.in_words()


def test_one_that_may_be_worse_than_the_gate_allows_does_not_replace_it() -> None:
    judged = verdict(score(2.0), score(1.003, noise=6), Champion(3, score(1.0)), worse_than_champion=0.02)
    assert not judged.passed
    assert "within noise" in judged.in_words()


def test_a_worse_one_is_refused_as_worse() -> None:
    judged = verdict(score(2.0), score(1.1, noise=1), Champion(3, score(1.0)))
    assert "worse than version 3" in judged.in_words()


def test_a_better_one_replaces_the_champion() -> None:
    judged = verdict(score(2.0), score(0.9, noise=1), Champion(3, score(1.0)))
    assert judged.passed
    assert "better than version 3, the champion" in judged.in_words()


def test_the_champions_own_adapter_passes_again() -> None:
    judged = verdict(score(2.0), score(1.0), Champion(3, score(1.0), same=True))
    assert judged.passed
    assert "the same adapter as version 3" in judged.in_words()


def test_a_champion_with_another_base_is_not_compared() -> None:
    assert verdict(score(2.0), score(1.0), Champion(3, None)).passed


def test_a_loss_of_ability_beyond_noise_and_limit_is_refused() -> None:
    assert verdict(score(2.0), score(1.0, general=72)).passed
    judged = verdict(score(2.0), score(1.0, general=65))
    assert not judged.passed
    assert "general ability: 65 of 100 right, 80 of 100 before" in judged.in_words()
    assert verdict(score(2.0), score(1.0, general=65), general_drop=0.2).passed


def test_a_loss_of_ability_over_the_limit_passes_if_it_may_be_noise() -> None:
    base, candidate = score(2.0), score(1.0)
    few = {"general": [True, True, True, False, True, True, True, True]}
    fewer = {"general": [True, True, True, True, False, False, True, True]}
    assert verdict(base.model_copy(update=few), candidate.model_copy(update=fewer)).passed


def test_a_base_that_guesses_has_no_ability_to_lose() -> None:
    judged = verdict(score(2.0, general=36), score(1.0, general=15))
    assert judged.passed
    assert "no better than guessing" in judged.in_words()


def test_a_candidate_must_meet_the_expectations_that_the_base_meets() -> None:
    judged = verdict(score(2.0, answers=("It is Paris.",)), score(1.0, answers=("It is Rome.",)))
    assert "no longer answers as expected" in judged.in_words()
    assert verdict(score(2.0, answers=("Rome",)), score(1.0, answers=("Rome",))).passed


def test_a_loss_that_is_nan_is_refused() -> None:
    judged = verdict(score(2.0), score(float("nan")))
    assert not judged.passed
    assert "not a number" in judged.in_words()


def task(references: list[str], **more: Any) -> TaskRows:
    asked = [Conversation.of(("user", f"question {number}")) for number in range(len(references))]
    return TaskRows(
        "exact of capitals", Task(metric="exact", **more), asked, [Message("assistant", one) for one in references]
    )


def test_one_that_is_worse_on_a_task_than_base_or_champion_is_refused() -> None:
    references = ["Paris"] * 20
    right, wrong = ("Paris",) * 20, ("Rome",) * 12 + ("Paris",) * 8
    judged = verdict(score(2.0, answers=right), score(1.0, answers=wrong), tasks=[task(references)])
    assert "exact of capitals: 40.0%, worse than the base" in judged.in_words()
    champion = Champion(2, score(1.5, answers=right))
    judged = verdict(score(2.0, answers=wrong), score(1.0, answers=wrong), champion, tasks=[task(references)])
    assert "exact of capitals: 40.0%, worse than version 2" in judged.in_words()
    once = ("Rome",) + ("Paris",) * 19
    assert verdict(score(2.0, answers=right), score(1.0, answers=once), tasks=[task(references)]).passed


def test_a_candidate_must_reach_the_minimum_of_a_task() -> None:
    answers = ("paris!",) * 10 + ("Rome",) * 10
    base, candidate = score(2.0, answers=answers), score(1.0, answers=answers)
    assert verdict(base, candidate, tasks=[task(["Paris"] * 20, at_least=0.5)]).passed
    judged = verdict(base, candidate, tasks=[task(["Paris"] * 20, at_least=0.6)])
    assert "exact of capitals: 50.0%, the task requires 60.0%" in judged.in_words()


ASKED = Conversation.of(("user", "?"))


def test_a_task_of_json_or_of_calls_is_judged_like_any_other() -> None:
    orders, calls = ['{"item": "Velvet", "quantity": 2}'] * 5, ['<tool_call>{"name": "open"}</tool_call>'] * 5
    right = ('{"quantity": 2, "item": "Velvet"}',) * 5 + (
        '<tool_call>{"name": "open", "arguments": {}}</tool_call>',
    ) * 5
    wrong = ("two bags of Velvet",) * 5 + ("I open.",) * 5
    tasks = [
        TaskRows(
            "orders",
            Task(metric="json_equal", at_least=0.8),
            [ASKED] * 5,
            [Message("assistant", one) for one in orders],
        ),
        TaskRows("calls", Task(metric="call", at_least=0.8), [ASKED] * 5, [Message("assistant", one) for one in calls]),
    ]
    base = score(2.0, answers=wrong)
    assert verdict(base, score(1.0, answers=right), tasks=tasks).passed
    judged = verdict(base, score(1.0, answers=right[:5] + wrong[5:]), tasks=tasks)
    assert "calls: 0.0%, the task requires 80.0%" in judged.in_words()
