"""The result of one check."""

from dataclasses import dataclass
from enum import StrEnum

INSTALL = "kubectl apply --server-side -k argo/overlays/kind  # or aks, eks, gke, or your own overlay"


class State(StrEnum):
    """The state of what was checked."""

    OK = "ok"
    NOTE = "note"  # worth knowing; runs do without it
    UNKNOWN = "unknown"  # the user may not read it
    MISSING = "missing"  # runs will fail


@dataclass(frozen=True)
class Finding:
    """What was checked, its state, and what to do about it."""

    subject: str
    state: State
    text: str
    remedy: str = ""


def unknown(subject: str, what: str) -> Finding:
    """Return the finding for something that the user may not read."""
    return Finding(
        subject, State.UNKNOWN, f"you may not list {what}", "ask your cluster administrator, or continue without it"
    )
