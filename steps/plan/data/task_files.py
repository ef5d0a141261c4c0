"""The files of the evaluation tasks: found, hashed, and every row checked for a reference."""

from collections.abc import Callable

from recipes.evaluation import Task
from recipes.recipe import Recipe
from steps.common.handover.resolved import DataSource
from steps.common.rows.read_rows import read_rows
from steps.common.rows.row import BadRow
from steps.common.runtime.errors import UserError
from steps.common.runtime.redaction import without_credentials
from steps.common.structured.reference import CALL, reference_error, wanted_calls
from steps.plan.data.data_file import find, pin_file
from steps.plan.data.local_files import LocalFiles

GENERAL_TOKENS = 9000  # of the general questions with their options; templates differ


def inspect_tasks(
    recipe: Recipe,
    readable: Callable[[str], bool] = lambda _: True,
    family: str = "",
    local: LocalFiles | None = None,
) -> list[DataSource | None]:
    """Download the tasks' files if they are remote, hash them and read their rows.

    Args:
        recipe: the recipe with the tasks.
        readable: tells whether this machine can read a file; the others are left out.
        family: format in which the model writes calls of tools, see `parse_calls`.
        local: what is known already of this machine's files.

    Returns:
        One entry per task, in the recipe's order: None for a task on the held-out rows, or one whose file was left out.

    Raises:
        UserError: a file is missing, of an unknown kind, or has a row that cannot be used or has no reference for the metric.
    """
    local = local or LocalFiles()
    return [
        _inspect(local, number, task, family) if task.places and all(map(readable, task.places)) else None
        for number, task in enumerate(recipe.evaluate.tasks)
    ]


def _inspect(local: LocalFiles, number: int, task: Task, family: str) -> DataSource:
    key = f"evaluate.tasks.{number}"
    found = [one for place in task.places for one in find(place, local)]
    rows = calls = 0
    for row in (row for path, _ in found for row in read_rows(path)):
        if isinstance(row, BadRow):
            raise UserError(f"{key}: {row}")
        if not row[1].conversation:
            raise UserError(f"{key}: {row[0]}: is plain text; a task needs rows with a question and an answer")
        rows += 1
        reference = row[1].conversation.answer
        if error := reference_error(task.metric, reference, family):
            raise UserError(f"{key}: {row[0]}: {error}")
        calls += task.metric == CALL and bool(wanted_calls(reference, family))
    name = ", ".join(map(without_credentials, task.places))
    if not rows:
        raise UserError(f"{key}: {name}: has no rows")
    if task.metric == CALL and not calls:
        written = f" in the format {family!r} (chat.tool_parser)" if family else ""
        raise UserError(
            f"{key}: {name}: no row's answer calls a tool{written}, which the metric {CALL} is about; use another metric"
        )
    return DataSource(source=name, files=[pin_file(*one, local) for one in found])
