"""Executes a recorded run on this machine while its progress is shown."""

from pipelines.machine.execute import Execution
from pipelines.machine.local_workflow import LocalWorkflow
from pipelines.machine.run_record import Run
from pipelines.shown.display import Display
from pipelines.shown.task_state import Phase
from steps.common.runtime.errors import GATE_REFUSED, INTERRUPTED, USER_ERROR
from steps.common.storage import volumes

STOPPED = 130  # as a shell reports a program that Ctrl-C ended
KNOWN_CODES = {0, USER_ERROR, GATE_REFUSED, INTERRUPTED}


def run_here(workflow: LocalWorkflow, run: Run) -> Run:
    """Execute a workflow until it ends, and return the run's final record.

    Raises:
        RunningError: another process is executing the run.
    """
    folders = {"weights": volumes.weights(), "runs": volumes.runs()}
    with Display(f"run {run.name}", [task.name for task in (*workflow.tasks, *workflow.on_exit)]) as display:
        return Execution(workflow, run, folders, display.update).execute()


def exit_code_of(run: Run) -> int:
    """Return the command's exit code for an ended run."""
    if run.exit_code == INTERRUPTED and run.phase is Phase.INTERRUPTED:
        return STOPPED
    return run.exit_code if run.exit_code in KNOWN_CODES else 1
