"""`fineline schedule`: retrain a model on a cluster, regularly, whenever there is new data."""

import argparse
from typing import TYPE_CHECKING

from pipelines.shown.arguments import add_cluster, add_recipe, load_recipe

if TYPE_CHECKING:
    from datetime import datetime

    from pipelines.cluster.connection import Connection
    from recipes.recipe import Recipe

HELP = "retrain a model on a cluster regularly, when its data has changed"
DESCRIPTION = (
    "Create a CronWorkflow that checks a recipe's data and base model regularly and runs the workflow when something has "
    "changed. A recipe of the same name replaces an earlier schedule."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_recipe(parser)
    add_cluster(parser)
    parser.add_argument(
        "--at", default="0 3 * * *", metavar="CRON", help="when to check for changes (default: '0 3 * * *')"
    )
    parser.add_argument("--time-zone", default="Etc/UTC", help="time zone of --at (default: Etc/UTC)")
    parser.add_argument("--remove", metavar="NAME", default="", help="remove the schedule of this model")


def execute(parsed: argparse.Namespace) -> int:
    """Create, change or remove a schedule.

    Raises:
        RecipeError: the recipe cannot be used.
        UserError: a later run could not read its data, there is no such schedule, or the cluster refuses.
    """
    from pipelines.cluster.connection import Connection

    connection = Connection(parsed.namespace, parsed.context)
    if parsed.remove:
        return _remove(connection, parsed.remove)
    return schedule(connection, load_recipe(parsed), parsed.at, parsed.time_zone)


def schedule(connection: "Connection", recipe: "Recipe", at: str, time_zone: str) -> int:
    """Create the CronWorkflow of a recipe's model, or change it.

    Raises:
        UserError: a later run could not read the recipe's data, or the cluster refuses.
    """
    from pipelines.cluster.submission import installed
    from pipelines.cluster.transfer.send_data import check_scope
    from pipelines.workflows import retrain
    from pipelines.workflows.parameters import as_text
    from steps.plan.check_recipe import check_recipe

    first = _first(at, time_zone)
    installed(connection)
    _check_readable(recipe)
    check_recipe(recipe, check_scope(connection))
    parameters = {"recipe": as_text(recipe), "name": recipe.name, "secrets": recipe.secrets}
    body = retrain.cron(recipe.name, at, time_zone, parameters, suspended=False).to_dict()
    connection.apply("cronworkflows", body)
    print(f"scheduled {recipe.name}; first check for changes: {first:%Y-%m-%d %H:%M} {time_zone}")
    return 0


def _check_readable(recipe: "Recipe") -> None:
    """Check that a run in the cluster can read everything that the recipe names.

    Raises:
        UserError: it cannot.
    """
    from pipelines.cluster.transfer.send_data import is_local
    from pipelines.workflows.step_pods.containers import RUNS_MOUNT
    from steps.common.runtime.errors import UserError
    from steps.plan.lm_eval.recipe_tasks import is_packed

    packed = {f"evaluate.lm_eval.{i}.include": [task.include] for i, task in enumerate(recipe.evaluate.lm_eval)}
    places = recipe.places | packed
    for number, task in enumerate(recipe.evaluate.lm_eval):
        if not is_packed(task):
            raise UserError(
                f"evaluate.lm_eval.{number}: a scheduled run cannot pack the task {task.task}; 'fineline plan' packs it and "
                f"prints the file's path: put the file at s3://, https:// or below {RUNS_MOUNT}, and set include to that"
            )
    for key, place in ((key, place) for key, found in places.items() for place in found):
        if is_local(place):
            raise UserError(
                f"{key}: {place} is on this machine, where a scheduled run cannot read it; "
                f"use s3://, https://, hf://datasets/… or a path below {RUNS_MOUNT}"
            )


def _first(at: str, time_zone: str) -> "datetime":
    """Return the schedule's first time; Argo accepts a schedule that has none, and reports nothing.

    Raises:
        UserError: Argo would refuse the schedule, it never comes, or the time zone is unknown.
    """
    import difflib
    from datetime import datetime
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    from pipelines.cluster.cron_schedule import parse
    from steps.common.runtime.errors import UserError

    try:
        now = datetime.now(ZoneInfo(time_zone))
    except (ZoneInfoNotFoundError, ValueError):
        nearest = difflib.get_close_matches(time_zone, available_timezones(), 1)
        hint = f"did you mean {nearest[0]}?" if nearest else "use a name such as Europe/Berlin"
        raise UserError(f"--time-zone: unknown time zone {time_zone!r}; {hint}") from None
    first = parse(at).first_after(now)
    if first is None:
        raise UserError(f"--at: {at!r} names a date that no year has")
    return first


def _remove(connection: "Connection", name: str) -> int:
    from steps.common.runtime.errors import UserError

    if connection.get("cronworkflows", name) is None:
        raise UserError(f"no CronWorkflow {name!r} in namespace {connection.namespace!r}")
    connection.delete("cronworkflows", name)
    print(f"removed the schedule of {name}; the served version stays")
    return 0
