"""Executes a workflow: each task when those before it are done, side by side where the DAG allows, then the exit handler."""

import json
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from filelock import Timeout

from pipelines.machine.local_workflow import LocalWorkflow, Pause, WorkflowTask
from pipelines.machine.references import fill
from pipelines.machine.run_record import Run
from pipelines.machine.task_process import TaskProcess
from pipelines.shown.task_state import Node, Phase
from steps.common.runtime.errors import INTERRUPTED, USER_ERROR

POLL_SECONDS = 0.1
GRACE_SECONDS = 120.0  # for a training to end its step and write a checkpoint
NOBODY_TO_ASK = "an approval is waited for on a cluster alone; set the parameter approval to false"
DONE = {Phase.SUCCEEDED, Phase.SKIPPED}

Tell = Callable[[str, Node, str], None]


class RunningError(Exception):
    """The run is being executed by another process."""


class Execution:
    """One execution of a run, from the beginning or from where an earlier one ended."""

    def __init__(self, machine: LocalWorkflow, run: Run, folders: dict[str, Path], tell: Tell) -> None:
        """Prepare it.

        Args:
            machine: what to run.
            run: where it is recorded.
            folders: a folder for each volume.
            tell: called with a task's name, its state and its progress, whenever one of them changes.
        """
        self.machine = machine
        self.run = run
        self.folders = folders
        self.tell = tell
        self.nodes: dict[str, Node] = {}
        self._values = {f"workflow.parameters.{name}": value for name, value in run.parameters.items()}
        self._values |= {"workflow.name": run.name}
        self._stopping = 0.0

    def execute(self) -> Run:
        """Run to the end, a failure, or Ctrl-C; return the run as it ended.

        Raises:
            RunningError: another process is at it.
        """
        lock = self.run.lock()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunningError(f"run {self.run.name} is being executed by another process") from None
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        self.run.phase, self.run.exit_code, self.run.message = Phase.RUNNING, 0, ""
        self.run.save()
        try:
            self._execute(self.machine.tasks)
            self._judge()
            if self.run.phase is not Phase.INTERRUPTED and self.machine.on_exit:
                self._values |= {
                    "workflow.status": self.run.phase.value,
                    "workflow.duration": f"{time.time() - self.run.started:f}",
                    "workflow.failures": self._failures(),
                }
                self._execute(self.machine.on_exit)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
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
                if all(name in self.nodes for name in task.after):
                    waiting.remove(task)
                    if process := self._begin(task):
                        running[task.name] = process
            for name, process in list(running.items()):
                node = process.ended()
                if node:
                    del running[name]
                    self._end(name, self._as_interrupted(node))
                else:
                    self.tell(
                        name, Node(phase=Phase.RUNNING, seconds=time.monotonic() - process.started), process.progress()
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
        """Start a task, unless it is done already, not wanted, or cannot be since one before it failed."""
        before = [self.nodes[name] for name in task.after]
        if any(node.phase not in DONE for node in before):
            self._end(task.name, Node(phase=Phase.OMITTED))
            return None
        if any(fill(left, self._values) != fill(right, self._values) for left, right in task.when):
            if isinstance(task.does, Pause):
                self._values |= {f"tasks.{task.name}.outputs.parameters.{k}": v for k, v in task.does.defaults.items()}
            self._end(task.name, Node(phase=Phase.SKIPPED))
            return None
        if isinstance(task.does, Pause):
            self._end(task.name, Node(phase=Phase.FAILED, exit_code=USER_ERROR, message=NOBODY_TO_ASK))
            return None
        inputs = self._inputs(task)
        kept = self.run.node(task.name)
        if kept and kept.phase is Phase.SUCCEEDED and self.run.inputs(task.name) == inputs:
            self._end(task.name, kept.model_copy(update={"message": "done before"}))
            return None
        return TaskProcess(self.run, task.name, task.does, inputs, self.folders)

    def _inputs(self, task: WorkflowTask) -> dict[str, str]:
        given = {name: fill(value, self._values) for name, value in task.arguments.items()}
        inputs = {name: given.get(name, default) for name, default in task.does.inputs.items()}
        missing = [name for name, value in inputs.items() if value is None]
        if missing:
            raise ValueError(f"task {task.name}: input {missing[0]!r} has neither an argument nor a default")
        return {name: value for name, value in inputs.items() if value is not None}

    def _end(self, task: str, node: Node) -> None:
        self.nodes[task] = node
        if node.message != "done before":
            self.run.save_node(task, node)
        for name, value in self.run.outputs(task).items() if node.phase is Phase.SUCCEEDED else ():
            self._values[f"tasks.{task}.outputs.parameters.{name}"] = value
        self.tell(task, node, "")

    def _as_interrupted(self, node: Node) -> Node:
        if self._stopping and node.phase is Phase.FAILED:
            return node.model_copy(update={"phase": Phase.INTERRUPTED, "exit_code": INTERRUPTED})
        return node

    def _judge(self) -> None:
        """Settle how the run ended, by the first task that did not succeed."""
        if self._stopping or len(self.nodes) < len(self.machine.tasks):
            self.run.phase, self.run.exit_code = Phase.INTERRUPTED, INTERRUPTED
            self.run.message = "stopped"
            return
        failed = next(((name, node) for name, node in self.nodes.items() if node.phase is Phase.FAILED), None)
        if failed:
            name, node = failed
            self.run.phase, self.run.exit_code = Phase.FAILED, node.exit_code
            self.run.message = f"{name}: {self._verdict(name) or node.message}"
        else:
            self.run.phase, self.run.exit_code, self.run.message = Phase.SUCCEEDED, 0, ""

    def _failures(self) -> str:
        """Return the tasks that failed, as far as our exit handler reads Argo's list of them."""
        failed = [(name, node) for name, node in self.nodes.items() if node.phase is Phase.FAILED]
        return json.dumps([{"displayName": name, "message": self._verdict(name) or n.message} for name, n in failed])

    def _verdict(self, task: str) -> str:
        """A step that ends with an exit code of its own has written its outputs all the same."""
        return self.run.outputs(task).get("verdict", "")


def parse_output(outputs: Mapping[str, str], name: str) -> object:
    """Return an output parameter's value; what is not JSON is text."""
    try:
        return json.loads(outputs[name])
    except ValueError:
        return outputs[name]
