"""Tries a packed task before it is written, as an evaluation runs it: in a confined process, on a model that counts."""

from pathlib import Path

from pydantic import BaseModel

from recipes.evaluation import LmEvalTask
from steps.common.lm_eval.confined_task import run_confined
from steps.common.lm_eval.pack import PackedRequest
from steps.common.runtime.errors import UserError
from steps.plan.lm_eval.choose_metric import choose_metric
from steps.plan.lm_eval.counting_model import CountingModel


class Trial(BaseModel):
    """A task to try."""

    key: str  # the recipe's key, for messages
    task: LmEvalTask
    content: Path  # folder of the packed task, as it will be unpacked
    request: PackedRequest


def run_trial(trial: Trial) -> PackedRequest:
    """Run the task on a model that only counts, and return its request with the chosen metric and its token counts.

    Raises:
        UserError: the task fails, has no such metric, or cannot be confined here.
    """
    model = CountingModel()
    where = f"{trial.key}: lm-eval's task {trial.task.task}"
    outcome = run_confined(trial.content, trial.request, model, chat_template=False, where=where)
    if outcome.without_code:
        name, metric = outcome.without_code[0]
        raise UserError(
            f"{trial.key}: lm-eval's task {name}: lm-eval has no metric {metric}, and an evaluation has no network to "
            "fetch it; choose another task, or give this one another metric"
        )
    if outcome.failure:
        raise UserError(f"{where} fails without a network, which an evaluation does not have: {outcome.failure}")
    metric, filtered = choose_metric(trial.key, trial.task, outcome)
    return trial.request.model_copy(
        update={
            "metric": metric,
            "filter": filtered,
            "read_tokens": model.read_tokens,
            "written_tokens": model.written_tokens,
        }
    )
