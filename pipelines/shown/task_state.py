"""The state of a task: its phase, its exit code, its duration and its message."""

from enum import StrEnum

from steps.common.storage.record import Record

REUSED = "already done"  # the message of a task whose result an earlier execution left


class Phase(StrEnum):
    """Argo's phases of a node, and Interrupted: stopped by a signal, and can be resumed."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    OMITTED = "Omitted"
    INTERRUPTED = "Interrupted"


class TaskState(Record):
    """The state of a task; how it ended, once it has."""

    phase: Phase
    exit_code: int = 0
    seconds: float = 0.0
    message: str = ""
