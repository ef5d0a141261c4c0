"""Scores a model on tasks of lm-eval, as it is served: one value per row, so that two models can be paired."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.evaluation import LmEvalTask
from steps.common.handover.resolved import Resolved, as_planned
from steps.common.lm_eval import pack
from steps.common.lm_eval.confined_task import run_confined
from steps.common.lm_eval.library import check_installed
from steps.common.lm_eval.model_socket import TaskOutcome
from steps.common.model.chat_template import ChatTemplate
from steps.common.runtime.errors import UserError
from steps.evaluate.scores.answering_model import AnsweringModel

SEED = 17


@dataclass(frozen=True)
class LmEvalRows:
    """A packed task, with the recipe's settings for it."""

    task: LmEvalTask
    file: Path
    sha256: str
    request: pack.PackedRequest

    @property
    def name(self) -> str:
        """Its name in the report: the metric, the task, and the number of examples if the recipe sets it."""
        shots = "" if self.task.num_fewshot is None else f", {self.task.num_fewshot}-shot"
        return f"{self.request.metric_in_words} of {self.task.task}{shots}"


def read_lm_eval_rows(resolved: Resolved) -> list[LmEvalRows]:
    """Return the recipe's tasks of lm-eval, as the plan packed them.

    Raises:
        UserError: a file has changed since the run was planned, or lm-eval is not installed.
    """
    if resolved.lm_eval:
        check_installed("evaluate.lm_eval")
    tasks = []
    for number, (task, file) in enumerate(zip(resolved.recipe.evaluate.lm_eval, resolved.lm_eval, strict=True)):
        path = as_planned(file)
        tasks.append(LmEvalRows(task, path, file.sha256, pack.read(path, f"evaluate.lm_eval.{number}")))
    return tasks


def score_lm_eval(model: Any, template: ChatTemplate, tasks: list[LmEvalRows], who: str) -> list[list[float]]:
    """Return the metric of each task, 0 to 1, row by row in the order of the rows.

    The code of a task runs in a confined process, which asks this one for what the model says.

    Args:
        model: in evaluation mode.
        template: of its own tokenizer, with the arguments with which it is served.
        tasks: to score it on.
        who: the model's role, for the log.

    Raises:
        UserError: a task fails or cannot be confined here, or a row's value is not between 0 and 1.
    """
    if not tasks:
        return []
    import torch

    answering = AnsweringModel(model, template, who)
    scores = []
    for rows in tasks:
        torch.manual_seed(SEED)  # some tasks sample their answers
        where = f"evaluate.lm_eval: {rows.name}"
        with pack.unpacked(rows.file) as folder:
            under_template = rows.request.chat_template
            outcome = run_confined(folder, rows.request, answering, chat_template=under_template, where=where)
        if outcome.failure or outcome.without_code:
            reason = outcome.failure or f"lm-eval has no metric {outcome.without_code[0][1]}"
            raise UserError(f"{where}: {reason}")
        scores.append(_values(rows, outcome, where))
    return scores


def _values(rows: LmEvalRows, outcome: TaskOutcome, where: str) -> list[float]:
    request = rows.request
    values = [sample.values.get(request.metric) for sample in outcome.samples if sample.filter == request.filter]
    if len(values) != request.count:
        raise UserError(f"{where}: it has {len(values)} values for {request.count} rows; choose another metric")
    shares = [value for value in values if value is not None and 0 <= value <= 1]
    if len(shares) < len(values):
        outside = next(value for value in values if value is None or not 0 <= value <= 1)
        shown = "not a number" if outside is None else f"{outside:g}"
        raise UserError(f"{where} is {shown} for a row, which is not between 0 and 1; choose another metric")
    return shares
