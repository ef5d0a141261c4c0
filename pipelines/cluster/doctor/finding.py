"""What the doctor found of one thing."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How it is with a thing."""

    OK = "ok"
    NOTE = "note"  # worth knowing; a run does without
    UNKNOWN = "unknown"  # whoever asks may not look
    MISSING = "missing"  # a run will fail


@dataclass(frozen=True)
class Finding:
    """One thing, how it is, and what to do about it."""

    subject: str
    state: State
    text: str
    remedy: str = ""


def unknown(subject: str, what: str) -> Finding:
    """Return the finding of what the user may not look at."""
    return Finding(subject, State.UNKNOWN, f"you may not list {what}", "ask who runs the cluster, or go on without")
