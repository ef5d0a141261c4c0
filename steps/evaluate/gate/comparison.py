"""A candidate beside base and champion: each difference with its interval, as the gate judges it and the report shows it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from steps.common.handover.report_difference import Difference
from steps.common.handover.report_parts import ModelRole, TaskResult
from steps.evaluate.gate.difference import mean_difference, relative_gain
from steps.evaluate.scores.general import CHANCE
from steps.evaluate.scores.lm_eval_rows import HarnessRows
from steps.evaluate.scores.pair_accuracy import PairAccuracy, pair_losses, preference
from steps.evaluate.scores.score import Score
from steps.evaluate.scores.scored_tasks import AskedTask


@dataclass(frozen=True)
class Champion:
    """The version that is served now."""

    version: int
    score: Score | None  # none where it stands on another base: their losses a token cannot be compared
    same: bool = False  # it is the candidate's own adapter


class Compared(BaseModel):
    """What the candidate gains, and its interval."""

    base: Difference  # share of the held-out loss; of pairs, of the preference's
    champion: Difference | None
    preference: PairAccuracy | None = None  # the candidate's, where the rows are pairs
    preference_of_champion: PairAccuracy | None = None
    general: Difference | None  # share of the guard's questions; below 0 where ability was lost
    general_of_base: Difference | None  # by which share the base answers more of them than guessing would
    tasks: list[TaskResult]


def compare(
    base: Score,
    candidate: Score,
    champion: Score | None,
    tasks: list[AskedTask],
    answered_before: int,
    lm_eval: list[HarnessRows],
    beta: float,
) -> Compared:
    """Hold the candidate against base and champion, pairing row by row.

    Args:
        base: its score.
        candidate: its score, on the same rows and the same tokenizer.
        champion: likewise; None where there is none to compare with.
        tasks: their rows' answers follow one another in each score.
        answered_before: how many answers stand before them.
        lm_eval: the tasks of lm-eval, in each score's order.
        beta: the recipe's, which pairs are judged by.
    """

    def losses(score: Score) -> list[float]:
        return pair_losses(score, base, beta) if base.rejected else score.nats

    def preferred(score: Score | None) -> PairAccuracy | None:
        return preference(score, base, beta) if base.rejected and score else None

    return Compared(
        base=relative_gain(losses(candidate), losses(base)),
        champion=relative_gain(losses(candidate), losses(champion)) if champion else None,
        preference=preferred(candidate),
        preference_of_champion=preferred(champion),
        general=mean_difference(candidate.general, base.general) if base.general else None,
        general_of_base=mean_difference(base.general, [CHANCE] * len(base.general)) if base.general else None,
        tasks=[
            *_tasks(base, candidate, champion, tasks, answered_before),
            *_harness_tasks(base, candidate, champion, lm_eval),
        ],
    )


def _harness_tasks(base: Score, candidate: Score, champion: Score | None, tasks: list[HarnessRows]) -> list[TaskResult]:
    scores = scores_by_role(base, candidate, champion)
    found = []
    for number, one in enumerate(tasks):
        values = {role: score.lm_eval[number] for role, score in scores.items()}
        found.append(_result(one.name, one.asked.metric_in_words, values, one.task.at_least, one.task.allowed_drop))
    return found


def _tasks(
    base: Score, candidate: Score, champion: Score | None, tasks: list[AskedTask], first: int
) -> list[TaskResult]:
    scores = scores_by_role(base, candidate, champion)
    found = []
    for task in tasks:
        values = {role: task.values(score.answers[first : first + len(task.asked)]) for role, score in scores.items()}
        first += len(task.asked)
        found.append(_result(task.name, task.task.metric, values, task.task.at_least))
    return found


def scores_by_role(base: Score, candidate: Score, champion: Score | None) -> dict[ModelRole, Score]:
    """Return the scores by the role of their model, without the champion if it has none."""
    scores: dict[ModelRole, Score] = {"base": base, "candidate": candidate}
    return scores | {"champion": champion} if champion else scores


def _result(
    name: str, metric: str, values: dict[ModelRole, list[float]], at_least: float | None, allowed_drop: float = 0.0
) -> TaskResult:
    """Return a task's result of each model's values, row by row."""
    return TaskResult(
        name=name,
        metric=metric,
        at_least=at_least,
        allowed_drop=allowed_drop,
        means={role: _mean(of_one) for role, of_one in values.items()},
        base=mean_difference(values["candidate"], values["base"]),
        champion=mean_difference(values["candidate"], values["champion"]) if "champion" in values else None,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
