"""`fineline schedule`: a CronWorkflow that retrains a recipe's model when there is something new."""

import difflib
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pipelines.cluster.connection import Connection
from pipelines.cluster.send_data import check_scope, is_local
from pipelines.cluster.submission import installed
from pipelines.commands.plan import as_text
from pipelines.workflows import retrain
from pipelines.workflows.containers import RUNS_MOUNT
from recipes.reader import load, override_of
from steps.common.runtime.errors import UserError
from steps.plan.check_recipe import check_recipe
from steps.plan.lm_eval.recipe_tasks import is_packed

SHORT = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}


def schedule(connection: Connection, reference: str, overrides: list[str], at: str, time_zone: str) -> int:
    """Create the CronWorkflow of a recipe's model, or change it.

    Raises:
        RecipeError: the recipe cannot be used.
        UserError: its data lie where no later run can look for new ones, or the cluster refuses.
    """
    recipe = load(reference, dict(override_of(text) for text in overrides))
    first = _first(at, time_zone)
    installed(connection)
    files = {"data.train": recipe.data.train, "data.validation": recipe.data.validation}
    files |= {f"evaluate.tasks.{number}.data": task.file for number, task in enumerate(recipe.evaluate.tasks)}
    files |= {f"evaluate.lm_eval.{i}.include": task.include for i, task in enumerate(recipe.evaluate.lm_eval)}
    for number, task in enumerate(recipe.evaluate.lm_eval):
        if not is_packed(task):
            raise UserError(
                f"evaluate.lm_eval.{number}: {task.task} is packed by no cron; 'fineline plan' packs it, and says where the "
                f"file is: put it at s3://, https:// or below {RUNS_MOUNT}, and give that as include"
            )
    for key, file in files.items():
        if is_local(file):
            raise UserError(
                f"{key}: {file} is a file of this machine, where a cron finds nothing new; "
                f"give s3://, https://, hf://datasets/… or a path below {RUNS_MOUNT}"
            )
    check_recipe(recipe, check_scope(connection))
    parameters = {"recipe": as_text(recipe), "name": recipe.name, "secrets": recipe.secrets}
    body = retrain.cron(recipe.name, at, time_zone, parameters, suspended=False).to_dict()
    connection.apply("cronworkflows", body)
    print(f"{recipe.name} is trained where something is new; looked at first: {first:%Y-%m-%d %H:%M} {time_zone}")
    return 0


def _first(at: str, time_zone: str) -> datetime:
    """Return when the schedule comes first: Argo takes one that never comes, and says nothing.

    Raises:
        UserError: it is no schedule, or the time zone is unknown.
    """
    from cronsim import CronSim, CronSimError

    try:
        now = datetime.now(ZoneInfo(time_zone))
    except (ZoneInfoNotFoundError, ValueError):
        nearest = difflib.get_close_matches(time_zone, available_timezones(), 1)
        hint = f"did you mean {nearest[0]}?" if nearest else "write it as Europe/Berlin"
        raise UserError(f"--time-zone: unknown: {time_zone!r}; {hint}") from None
    try:
        return next(CronSim(SHORT.get(at, at), now))
    except (CronSimError, StopIteration):
        raise UserError(
            f"--at: not a schedule: {at!r}; write minute, hour, day, month and weekday, as in '0 3 * * 1-5'"
        ) from None


def unschedule(connection: Connection, name: str) -> int:
    """Delete a model's CronWorkflow; what is served stays.

    Raises:
        UserError: there is none.
    """
    if connection.get("cronworkflows", name) is None:
        raise UserError(f"no CronWorkflow {name!r} in namespace {connection.namespace!r}")
    connection.delete("cronworkflows", name)
    print(f"{name} is not looked at any more; what is served stays")
    return 0
