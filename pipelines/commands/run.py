"""`fineline run`: run the workflow on this machine, from the start or from where an earlier execution ended."""

import argparse
from typing import TYPE_CHECKING

from pipelines.shown.arguments import add_json, add_recipe, load_recipe

if TYPE_CHECKING:
    from pipelines.machine.local_workflow import LocalWorkflow
    from pipelines.machine.run_record import Run

HELP = "run the whole workflow on this machine"
DESCRIPTION = (
    "Run the whole workflow on this machine: plan, fetch the base model, prepare the data, tune, evaluate, register and "
    "serve. Steps whose results already exist are not repeated."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_recipe(parser)
    add_json(parser)
    parser.add_argument(
        "--resume", metavar="RUN", help="continue an interrupted or failed run, skipping finished steps"
    )


def execute(parsed: argparse.Namespace) -> int:
    """Run a recipe, or finish a run.

    Raises:
        RecipeError: the recipe cannot be used.
        UserError: the plan refuses the recipe, in which case no run is created; or there is no such run.
    """
    from pipelines.machine.local_workflow import read
    from pipelines.machine.run_here import exit_code_of, run_here
    from pipelines.machine.run_result import result_of, show_result
    from pipelines.workflows.finetune import build

    workflow = read(build().to_dict())
    run = _recorded(parsed.resume) if parsed.resume else _planned(parsed, workflow)
    ended = run_here(workflow, run)
    result = result_of(ended)
    if parsed.json:
        print(result.model_dump_json(indent=2))
    else:
        show_result(ended, result)
    return exit_code_of(ended)


def _planned(parsed: argparse.Namespace, workflow: "LocalWorkflow") -> "Run":
    from rich.console import Console

    from pipelines.machine.run_record import new_run
    from pipelines.shown.quote_table import quote_table
    from pipelines.workflows.parameters import as_text
    from steps.plan.step import PlanInput, hand_over, resolve

    recipe = load_recipe(parsed)
    # Planned before there is a run, so that a mistake leaves none behind.
    resolved = resolve(PlanInput(recipe=as_text(recipe)))
    Console(stderr=True, highlight=False).print(quote_table(resolved))
    run = new_run(recipe.name, workflow.name, {**workflow.parameters, "recipe": as_text(resolved.recipe)})
    hand_over(resolved, run.name)
    return run


def _recorded(name: str) -> "Run":
    from pipelines.machine.run_record import load_run, runs
    from pipelines.shown.shell_command import shell_command
    from steps.common.runtime.errors import UserError

    run = load_run(name)
    if run is None:
        newest = runs()[:1]
        hint = f"the newest is {newest[0].name}" if newest else "there are no runs yet"
        raise UserError(f"no run {name!r}; {hint} ('{shell_command('fineline runs')}' lists all runs)")
    return run
