"""Which of a task's numbers counts."""

from typing import Any

from recipes.evaluation import LmEvalTask
from steps.common.runtime.errors import UserError


def choose(key: str, wanted: LmEvalTask, tasks: dict[str, Any], found: list[dict[str, Any]]) -> tuple[str, str]:
    """Return the metric that the recipe names, or else the first, and its filter.

    Args:
        key: the recipe's, for messages.
        wanted: what it says there.
        tasks: lm-eval's, by name.
        found: the samples of all their rows.

    Raises:
        UserError: there is no such metric, or none that is a mean over rows: only such a one can be paired row by row.
    """
    every = dict.fromkeys((metric, sample["filter"]) for sample in found for metric in sample["metrics"])
    usable = [one for one in every if all(_is_mean(task, one[0]) for task in tasks.values()) and _in_all(found, *one)]
    name, _, filtered = wanted.metric.partition(",")
    chosen = [one for one in usable if name in ("", one[0]) and filtered in ("", one[1])]
    if chosen:
        return chosen[0]
    known = ", ".join(metric if each == "none" else f"{metric},{each}" for metric, each in usable)
    if name in {metric for metric, _ in every} and not filtered:
        what = f"{name} is no mean over rows between 0 and 1, the more the better"
    else:
        what = f"lm-eval's task {wanted.task} has no metric {wanted.metric!r} to compare by"
    raise UserError(f"{key}: {what}; {f'take {known}' if known else 'nor has it any other: take another task'}")


def _is_mean(task: Any, metric: str) -> bool:
    by = task.aggregation().get(metric)
    return getattr(by, "__name__", "") == "mean" and bool(task.higher_is_better().get(metric, True))


def _in_all(found: list[dict[str, Any]], metric: str, filtered: str) -> bool:
    """Tell whether every row has the number: one a row, between 0 and 1."""
    values = [sample.get(metric) for sample in found if sample["filter"] == filtered]
    return all(isinstance(value, int | float) and 0 <= value <= 1 for value in values)
