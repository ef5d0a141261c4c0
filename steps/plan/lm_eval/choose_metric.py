"""Chooses which of a task's metrics counts."""

from recipes.evaluation import LmEvalTask
from steps.common.lm_eval.model_socket import TaskOutcome, TaskSample
from steps.common.runtime.errors import UserError


def choose_metric(key: str, task: LmEvalTask, outcome: TaskOutcome) -> tuple[str, str]:
    """Return the metric that the recipe names, or else the first usable one, and its filter.

    Args:
        key: the recipe's key, for messages.
        task: the recipe's task.
        outcome: what the trial has found.

    Raises:
        UserError: the metric does not exist, or is not a mean over rows; only such a one can be paired row by row.
    """
    every = dict.fromkeys((metric, sample.filter) for sample in outcome.samples for metric in sample.values)
    usable = [
        (metric, filtered)
        for metric, filtered in every
        if metric in outcome.means and _is_share_of_every_row(outcome.samples, metric, filtered)
    ]
    name, _, wanted_filter = task.metric.partition(",")
    matching = [one for one in usable if name in ("", one[0]) and wanted_filter in ("", one[1])]
    if matching:
        return matching[0]
    known = ", ".join(metric if filtered == "none" else f"{metric},{filtered}" for metric, filtered in usable)
    if name in {metric for metric, _ in every} and not wanted_filter:
        problem = f"metric {name} is not a mean over rows, between 0 and 1, where higher is better"
    elif name:
        problem = f"lm-eval's task {task.task} has no metric {task.metric!r} to compare rows by"
    else:
        problem = f"lm-eval's task {task.task} has no metric that is a mean over rows, between 0 and 1"
    remedy = f"choose one of {known}" if known else "it has no other to choose from; choose another task"
    raise UserError(f"{key}: {problem}; {remedy}")


def _is_share_of_every_row(samples: list[TaskSample], metric: str, filtered: str) -> bool:
    """Return whether every row has one value of the metric, between 0 and 1."""
    values = [sample.values.get(metric) for sample in samples if sample.filter == filtered]
    return all(value is not None and 0 <= value <= 1 for value in values)
