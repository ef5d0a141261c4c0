"""How a run ended, as one line and as data: for the step's outputs and for a webhook."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from steps.common.kubernetes.step_failure import reason, task_of
from steps.common.runtime.progress import duration


class Outcome(BaseModel):
    """The end of a run."""

    run: str
    model: str  # its registered name; empty if the recipe could not be read
    state: str  # Succeeded, Failed or Error
    reason: str  # which step failed, and its message; empty if none did
    version: str  # that was registered, or found registered
    url: str  # where it is served
    seconds: float
    cost: float | None  # in US dollars, of the nodes bought for the run; None: none was
    link: str  # to the run in Argo's UI, if its address is set

    def in_words(self) -> str:
        """Return it as one line."""
        what = [f"version {self.version} is registered"] if self.version else []
        what += [f"served at {self.url}"] if self.url else []
        otherwise = "nothing new" if self.state == "Succeeded" else "no step reported a reason"
        name = f"{self.model} ({self.run})" if self.model else self.run
        took = duration(self.seconds) + (f" for ${self.cost:.2f}" if self.cost is not None else "")
        return f"{name} {self.state.lower()} in {took}: {self.reason or ', '.join(what) or otherwise}"


def failure(failures: str) -> str:
    """Return the step that made the run fail and its message, from Argo's `workflow.failures`; empty if none did.

    Args:
        failures: a JSON list of failed nodes, which Argo wraps in a JSON string; it includes attempts that were retried.
    """
    nodes: Any = failures or "[]"
    while isinstance(nodes, str):
        try:
            nodes = json.loads(nodes)
        except ValueError:
            return ""
    found = [
        _FailedNode(node["displayName"], node.get("message") or "", node.get("finishedAt") or "")
        for node in nodes or []
    ]
    # The list may include the parent of a task's attempts, which says only that there are no more retries, and the DAG,
    # which says nothing. Both end together with the last attempt, or a moment later.
    attempted = {task_of(node.name) for node in found if node.is_attempt}
    with_reason = [node for node in found if node.message and node.name not in attempted] or found
    last = max(with_reason, key=lambda node: (node.finished, node.is_attempt), default=None)
    return f"{task_of(last.name)}: {reason(last.message)}" if last else ""


@dataclass(frozen=True)
class _FailedNode:
    name: str
    message: str
    finished: str

    @property
    def is_attempt(self) -> bool:
        return task_of(self.name) != self.name
