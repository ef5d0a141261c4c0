"""The files of the tasks: where they are, which content, and whether each of their rows has a reference."""

from recipes.recipe import Recipe
from steps.common.handover.resolved import DataFile
from steps.common.rows.read_rows import read_rows
from steps.common.rows.row import BadRow
from steps.common.runtime.errors import UserError
from steps.plan.data.data_file import located, pinned

GENERAL_TOKENS = 9000  # of the questions of general ability with their options; templates differ


def look_at_tasks(recipe: Recipe) -> list[DataFile | None]:
    """Fetch the tasks' files where they lie elsewhere, hash them and read their rows.

    Returns:
        A file for each task of the recipe, in their order; None where a task asks the held-out rows.

    Raises:
        UserError: a file is missing, of an unknown kind, or has a row that cannot be used or has no reference.
    """
    return [_file(number, task.file) if task.file else None for number, task in enumerate(recipe.evaluate.tasks)]


def _file(number: int, name: str) -> DataFile:
    path, fetched = located(name)
    for row in read_rows(path):
        if isinstance(row, BadRow):
            raise UserError(f"evaluate.tasks.{number}: {row}")
        if not row[1].messages:
            raise UserError(f"evaluate.tasks.{number}: {row[0]}: is plain text; a task's row is asked and answered")
    return pinned(path, fetched)
