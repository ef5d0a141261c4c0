"""The record of a run on disk: `run.json`, and a folder for each task with its inputs, outputs, log and final state."""

import json
import time
from pathlib import Path

from filelock import FileLock, Timeout

from pipelines.shown.task_state import Phase, TaskState
from steps.common.storage import volumes
from steps.common.storage.files import write_text
from steps.common.storage.record import Record

RUN, STATE, INPUTS, LOG, PROGRESS, OUTPUTS = (
    "run.json",
    "node.json",
    "inputs.json",
    "log.txt",
    "progress.txt",
    "outputs",
)


class Run(Record):
    """A run, as `run.json` stores it."""

    name: str
    workflow: str
    parameters: dict[str, str]
    started: float
    phase: Phase = Phase.RUNNING
    exit_code: int = 0
    message: str = ""
    finished: float = 0.0  # Unix time; 0: not yet, or an earlier release ended it

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return volumes.run_folder(self.name)

    def task_folder(self, task: str) -> Path:
        """Return the folder of one of the run's tasks."""
        return self.folder / "tasks" / task

    def save(self) -> None:
        """Write `run.json`."""
        write_text(self.folder / RUN, self.model_dump_json(indent=2) + "\n")

    def task_state(self, task: str) -> TaskState | None:
        """Return how a task ended, or None if it has not."""
        try:
            file = self.task_folder(task) / STATE
            return TaskState.read(file.read_text(), file)
        except FileNotFoundError:
            return None

    def save_task_state(self, task: str, state: TaskState) -> None:
        """Record how a task ended."""
        write_text(self.task_folder(task) / STATE, state.model_dump_json(indent=2) + "\n")

    def outputs(self, task: str) -> dict[str, str]:
        """Return a task's output parameters."""
        folder = self.task_folder(task) / OUTPUTS / "parameters"
        return {file.name: file.read_text() for file in folder.iterdir()} if folder.is_dir() else {}

    def inputs(self, task: str) -> dict[str, str]:
        """Return the inputs with which the task was last started."""
        try:
            recorded = json.loads((self.task_folder(task) / INPUTS).read_text())
        except FileNotFoundError:
            return {}
        return {parameter["name"]: parameter["value"] for parameter in recorded}

    def state(self) -> Phase:
        """Return the phase; Interrupted if the process that executed the run is gone, since its lock went with it."""
        if self.phase is not Phase.RUNNING:
            return self.phase
        lock = self.lock()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return Phase.RUNNING
        lock.release()
        return Phase.INTERRUPTED

    def lock(self) -> FileLock:
        """Return the lock that a process holds while it executes the run."""
        return FileLock(str(self.folder / ".lock"))


def new_run(prefix: str, workflow: str, parameters: dict[str, str]) -> Run:
    """Create a run with a unique name.

    Args:
        prefix: the start of the name, usually the model's name.
        workflow: the workflow's name.
        parameters: the workflow's parameters.
    """
    while True:
        name = f"{prefix}-{time.strftime('%Y%m%d-%H%M%S')}"
        try:
            volumes.run_folder(name).mkdir(parents=True)
            break
        except FileExistsError:
            time.sleep(0.3)
    run = Run(name=name, workflow=workflow, parameters=parameters, started=time.time())
    run.save()
    return run


def load_run(name: str) -> Run | None:
    """Return a run by its name, or None if there is none."""
    try:
        file = volumes.run_folder(name) / RUN
        return Run.read(file.read_text(), file)
    except FileNotFoundError:
        return None


def runs() -> list[Run]:
    """Return all runs on this machine, the newest first."""
    found = [load_run(file.parent.name) for file in (volumes.runs() / "runs").glob(f"*/{RUN}")]
    return sorted((run for run in found if run), key=lambda run: run.started, reverse=True)
