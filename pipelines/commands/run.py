"""`fineline run`: the workflow on this machine, from the beginning or from where an earlier execution ended."""

from rich.console import Console

from pipelines.commands.plan import as_text, quote_table
from pipelines.machine.execute import Execution
from pipelines.machine.local_workflow import LocalWorkflow, read
from pipelines.machine.run_record import Run, load_run, new_run, runs
from pipelines.machine.run_result import result_of, show_result
from pipelines.shown.display import Display
from pipelines.shown.task_state import Phase
from pipelines.shown.typed_command import command
from pipelines.workflows.finetune import build
from recipes.reader import load, override_of
from steps.common.runtime.errors import INTERRUPTED, UserError
from steps.common.storage import volumes
from steps.plan.step import PlanInput, resolve

STOPPED = 130
KNOWN_CODES = {0, 2, 3}


def run(reference: str, overrides: list[str], *, as_json: bool) -> int:
    """Run a recipe.

    Raises:
        RecipeError: the recipe cannot be used.
        UserError: the plan refuses it; there is no run then.
    """
    recipe = load(reference, dict(override_of(text) for text in overrides))
    # The plan task resolves it again in its own process; here so that a mistake leaves no run behind.
    resolved = resolve(PlanInput(recipe=as_text(recipe)))
    Console(stderr=True, highlight=False).print(quote_table(resolved))
    machine = read(build().to_dict())
    parameters = {**machine.parameters, "recipe": as_text(recipe)}
    return _execute(machine, new_run(recipe.name, machine.name, parameters), as_json=as_json)


def resume(name: str, *, as_json: bool) -> int:
    """Finish a run.

    Raises:
        UserError: there is no such run.
    """
    known = load_run(name)
    if known is None:
        latest = [found.name for found in runs()[:1]]
        hint = f"; the newest is {latest[0]}" if latest else "; there are none yet"
        raise UserError(f"no run {name!r}{hint} ('{command('fineline runs')}' lists them)")
    return _execute(read(build().to_dict()), known, as_json=as_json)


def _execute(machine: LocalWorkflow, run: Run, *, as_json: bool) -> int:
    folders = {"weights": volumes.weights(), "runs": volumes.runs()}
    names = [task.name for task in (*machine.tasks, *machine.on_exit)]
    with Display(f"run {run.name}", names) as display:
        ended = Execution(machine, run, folders, display.tell).execute()
    result = result_of(ended)
    if as_json:
        print(result.model_dump_json(indent=2))
    else:
        show_result(ended, result)
    return code(ended)


def code(run: Run) -> int:
    """Return the command's exit code for how a run has ended."""
    if run.exit_code == INTERRUPTED and run.phase is Phase.INTERRUPTED:
        return STOPPED
    return run.exit_code if run.exit_code in KNOWN_CODES else 1
