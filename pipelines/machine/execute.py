"""Executes a workflow: each task once its dependencies are done, in parallel where the DAG allows, then the exit handler."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from filelock import Timeout

from pipelines.machine.local_workflow import LocalWorkflow, Pause, WorkflowTask
from pipelines.machine.references import fill
from pipelines.machine.run_record import Run
from pipelines.machine.task_process import TaskProcess
from pipelines.shown.task_state import REUSED, Phase, TaskState
from steps.common.runtime.errors import INTERRUPTED, USER_ERROR, UserError

POLL_SECONDS = 0.1
LOOK_SECONDS = 1.0  # whoever looks whether the run is being executed holds its lock for a moment
GRACE_SECONDS = 120.0  # lets a training finish its step and write a checkpoint
NO_APPROVALS = "approvals work on a cluster only; set the workflow parameter approval to false"
DONE = {Phase.SUCCEEDED, Phase.SKIPPED}

OnChange = Callable[[str, TaskState, str], None]


class RunningError(UserError):
    """Another process is executing the run."""


class Execution:
    """One execution of a run, from the start or from where an earlier execution ended."""

    def __init__(self, workflow: LocalWorkflow, run: Run, folders: dict[str, Path], on_change: OnChange) -> None:
        """Prepare the execution; nothing starts yet.

        Args:
            workflow: the workflow to run.
            run: the record that it is written to.
            folders: a folder for each volume.
            on_change: called with a task's name, state and progress, several times a second while it runs.
        """
        self.workflow = workflow
        self.run = run
        self.folders = folders
        self.on_change = on_change
        self.states: dict[str, TaskState] = {}
        self._values = {f"workflow.parameters.{name}": value for name, value in run.parameters.items()}
        self._values |= {"workflow.name": run.name}
        self._stopping = 0.0

    def execute(self) -> Run:
        """Run until success, failure or Ctrl-C, and return the run's final record.

        Raises:
            RunningError: another process is executing the run.
        """
        lock = self.run.lock()
        try:
            lock.acquire(timeout=LOOK_SECONDS)
        except Timeout:
            raise RunningError(
                f"run {self.run.name} is being executed by another process; wait for it, or stop it with Ctrl-C there"
            ) from None
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        self.run.phase, self.run.exit_code, self.run.message, self.run.finished = Phase.RUNNING, 0, "", 0.0
        self.run.save()
        try:
            self._execute(self.workflow.tasks)
            self._judge()
            if self.run.phase is not Phase.INTERRUPTED and self.workflow.on_exit:
                self._values |= {
                    "workflow.status": self.run.phase.value,
                    "workflow.duration": f"{time.time() - self.run.started:f}",
                    "workflow.failures": self._failures(),
                }
                self._execute(self.workflow.on_exit)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.run.finished = time.time()
            self.run.save()
            lock.release()
        return self.run

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = -1.0 if self._stopping else time.monotonic()

    def _execute(self, tasks: list[WorkflowTask]) -> None:
        running: dict[str, TaskProcess] = {}
        waiting = list(tasks)
        signalled: set[tuple[str, signal.Signals]] = set()
        while waiting or running:
            for task in list(waiting):
                if self._stopping:
                    break
                if all(name in self.states for name in task.after):
                    waiting.remove(task)
                    if process := self._begin(task):
                        running[task.name] = process
            for name, process in list(running.items()):
                state = process.final_state()
                if state:
                    del running[name]
                    self._settle(name, self._as_interrupted(state))
                else:
                    self.on_change(
                        name,
                        TaskState(phase=Phase.RUNNING, seconds=time.monotonic() - process.started),
                        process.progress(),
                    )
            if self._stopping:
                waiting.clear()
                late = self._stopping < 0 or time.monotonic() - self._stopping > GRACE_SECONDS
                number = signal.SIGKILL if late else signal.SIGTERM
                for name, process in running.items():
                    if (name, number) not in signalled:
                        signalled.add((name, number))
                        process.signal(number)
            if running:
                time.sleep(POLL_SECONDS)

    def _begin(self, task: WorkflowTask) -> TaskProcess | None:
        """Start a task, unless it is already done, its condition is false, or a task it depends on has failed."""
        if any(self.states[name].phase not in DONE for name in task.after):
            self._settle(task.name, TaskState(phase=Phase.OMITTED))
            return None
        if any(fill(left, self._values) != fill(right, self._values) for left, right in task.when):
            if isinstance(task.does, Pause):
                self._values |= {f"tasks.{task.name}.outputs.parameters.{k}": v for k, v in task.does.defaults.items()}
            self._settle(task.name, TaskState(phase=Phase.SKIPPED))
            return None
        if isinstance(task.does, Pause):
            self._settle(task.name, TaskState(phase=Phase.FAILED, exit_code=USER_ERROR, message=NO_APPROVALS))
            return None
        inputs = self._inputs(task)
        recorded = self.run.task_state(task.name)
        if recorded and recorded.phase is Phase.SUCCEEDED and self.run.inputs(task.name) == inputs:
            self._settle(task.name, recorded.model_copy(update={"message": REUSED}))
            return None
        return TaskProcess(self.run, task.name, task.does, inputs, self.folders)

    def _inputs(self, task: WorkflowTask) -> dict[str, str]:
        given = {name: fill(value, self._values) for name, value in task.arguments.items()}
        inputs = {name: given.get(name, default) for name, default in task.does.inputs.items()}
        missing = [name for name, value in inputs.items() if value is None]
        if missing:
            raise ValueError(f"task {task.name}: input {missing[0]!r} has neither an argument nor a default")
        return {name: value for name, value in inputs.items() if value is not None}

    def _settle(self, task: str, state: TaskState) -> None:
        self.states[task] = state
        if state.message != REUSED:
            self.run.save_task_state(task, state)
        for name, value in self.run.outputs(task).items() if state.phase is Phase.SUCCEEDED else ():
            self._values[f"tasks.{task}.outputs.parameters.{name}"] = value
        self.on_change(task, state, "")

    def _as_interrupted(self, state: TaskState) -> TaskState:
        if self._stopping and state.phase is Phase.FAILED:
            return state.model_copy(update={"phase": Phase.INTERRUPTED, "exit_code": INTERRUPTED})
        return state

    def _judge(self) -> None:
        """Set how the run ended, from the first task that failed."""
        if self._stopping or len(self.states) < len(self.workflow.tasks):
            self.run.phase, self.run.exit_code = Phase.INTERRUPTED, INTERRUPTED
            self.run.message = "stopped"
            return
        failed = next(((name, state) for name, state in self.states.items() if state.phase is Phase.FAILED), None)
        if failed:
            name, state = failed
            self.run.phase, self.run.exit_code = Phase.FAILED, state.exit_code
            self.run.message = f"{name}: {self._verdict(name) or state.message}"
        else:
            self.run.phase, self.run.exit_code, self.run.message = Phase.SUCCEEDED, 0, ""

    def _failures(self) -> str:
        """Return the failed tasks as Argo's `workflow.failures`, limited to the fields that our exit handler reads."""
        failed = [(name, state) for name, state in self.states.items() if state.phase is Phase.FAILED]
        return json.dumps([{"displayName": name, "message": self._verdict(name) or n.message} for name, n in failed])

    def _verdict(self, task: str) -> str:
        """Return a task's verdict, which it writes even when it ends with a non-zero exit code."""
        return self.run.outputs(task).get("verdict", "")
