"""Compares a candidate with base and champion: each difference with its interval, for the gate and for the report."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from steps.common.handover.report_difference import Difference
from steps.common.handover.report_parts import ModelRole, TaskResult
from steps.common.structured.parse_calls import parse_calls
from steps.evaluate.gate.difference import mean_difference, relative_gain
from steps.evaluate.scores.general import CHANCE
from steps.evaluate.scores.lm_eval_rows import LmEvalRows
from steps.evaluate.scores.pair_accuracy import PairAccuracy, pair_accuracy, pair_losses
from steps.evaluate.scores.score import Score
from steps.evaluate.scores.task_rows import CallReader, TaskRows


@dataclass(frozen=True)
class Champion:
    """The version that is served now."""

    version: int
    score: Score | None  # None if it has another base: the losses per token of two tokenizers cannot be compared
    same: bool = False  # its adapter is the candidate's own
    adapter_sha256: str = ""


class Comparison(BaseModel):
    """The candidate's differences from base and champion."""

    base: Difference  # relative gain in held-out loss; for preference pairs, in the loss per pair
    champion: Difference | None
    preference: PairAccuracy | None = None  # the candidate's; only for preference pairs
    preference_of_champion: PairAccuracy | None = None
    general: Difference | None  # share of the general questions; below 0 if ability was lost
    general_of_base: Difference | None  # by what share the base answers more of them than a guesser
    tasks: list[TaskResult]


def compare(
    base: Score,
    candidate: Score,
    champion: Score | None,
    tasks: list[TaskRows],
    first_answer: int,
    lm_eval: list[LmEvalRows],
    beta: float,
    read_calls: CallReader = parse_calls,
) -> Comparison:
    """Compare the candidate with base and champion, row by row.

    Args:
        base: its score.
        candidate: its score, on the same rows with the same tokenizer.
        champion: likewise; None if there is none to compare with.
        tasks: the recipe's tasks; each score has their answers one after another.
        first_answer: where in a score's answers those of the tasks begin.
        lm_eval: the tasks of lm-eval, in the order of each score.
        beta: of DPO, which the rewards of pairs are scaled by.
        read_calls: finds the calls of tools in an answer.
    """

    def losses(score: Score) -> list[float]:
        return pair_losses(score, base, beta) if base.rejected else score.nats

    def preference(score: Score | None) -> PairAccuracy | None:
        return pair_accuracy(score, base, beta) if base.rejected and score else None

    return Comparison(
        base=relative_gain(losses(candidate), losses(base)),
        champion=relative_gain(losses(candidate), losses(champion)) if champion else None,
        preference=preference(candidate),
        preference_of_champion=preference(champion),
        general=mean_difference(candidate.general, base.general) if base.general else None,
        general_of_base=mean_difference(base.general, [CHANCE] * len(base.general)) if base.general else None,
        tasks=[
            *_task_results(base, candidate, champion, tasks, first_answer, read_calls),
            *_lm_eval_results(base, candidate, champion, lm_eval),
        ],
    )


def _lm_eval_results(
    base: Score, candidate: Score, champion: Score | None, tasks: list[LmEvalRows]
) -> list[TaskResult]:
    scores = scores_by_role(base, candidate, champion)
    results = []
    for number, rows in enumerate(tasks):
        values = {role: score.lm_eval[number] for role, score in scores.items()}
        metric = rows.request.metric_in_words
        results.append(_result(rows.name, metric, values, rows.task.at_least, rows.task.allowed_drop))
    return results


def _task_results(
    base: Score, candidate: Score, champion: Score | None, tasks: list[TaskRows], first: int, read_calls: CallReader
) -> list[TaskResult]:
    scores = scores_by_role(base, candidate, champion)
    results = []
    for rows in tasks:
        end = first + len(rows.chats)
        values = {role: rows.values(score.answers[first:end], read_calls) for role, score in scores.items()}
        first = end
        results.append(_result(rows.name, rows.task.metric, values, rows.task.at_least))
    return results


def scores_by_role(base: Score, candidate: Score, champion: Score | None) -> dict[ModelRole, Score]:
    """Return the scores by the role of their model; the champion is left out if it has none."""
    scores: dict[ModelRole, Score] = {"base": base, "candidate": candidate}
    return scores | {"champion": champion} if champion else scores


def _result(
    name: str,
    metric: str,
    values: dict[ModelRole, list[float]],
    at_least: float | None,
    allowed_drop: float = 0.0,
) -> TaskResult:
    """Return the result of a task from each model's values, row by row."""
    return TaskResult(
        name=name,
        metric=metric,
        at_least=at_least,
        allowed_drop=allowed_drop,
        means={role: _mean(of_model) for role, of_model in values.items()},
        base=mean_difference(values["candidate"], values["base"]),
        champion=mean_difference(values["candidate"], values["champion"]) if "champion" in values else None,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
