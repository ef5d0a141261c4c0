"""A task of a run as people see it: its phase, how it ended, how long it took."""

from enum import StrEnum

from pydantic import BaseModel

REUSED = "already done"  # the message of a task whose result an earlier execution left


class Phase(StrEnum):
    """Argo's phases of a node, and Interrupted: stopped from outside, to be gone on with."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    OMITTED = "Omitted"
    INTERRUPTED = "Interrupted"


class TaskState(BaseModel):
    """How a task ended."""

    phase: Phase
    exit_code: int = 0
    seconds: float = 0.0
    message: str = ""
