"""What became of a run, in one line and as data: for its node's outputs, and for a webhook."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from steps.common.kubernetes.step_failure import reason, task_of
from steps.common.runtime.progress import duration


class Outcome(BaseModel):
    """The end of a run."""

    run: str
    model: str  # its registered name; empty where the recipe could not be read
    state: str  # Succeeded, Failed or Error
    reason: str  # which step failed and what it said; empty when none did
    version: str  # that was registered, or found registered
    url: str  # where it is served
    seconds: float
    cost: float | None  # in US dollars, of what was bought for the run; None: nothing was
    link: str  # to the run in Argo's UI, where its address is set

    def in_words(self) -> str:
        """Return it as one line."""
        what = [f"version {self.version} is registered"] if self.version else []
        what += [f"served at {self.url}"] if self.url else []
        otherwise = "nothing new" if self.state == "Succeeded" else "no step says why"
        name = f"{self.model} ({self.run})" if self.model else self.run
        took = duration(self.seconds) + (f" for ${self.cost:.2f}" if self.cost is not None else "")
        return f"{name} {self.state.lower()} in {took}: {self.reason or ', '.join(what) or otherwise}"


def failure(failures: str) -> str:
    """Return the step that ended the run and its last words, out of Argo's `workflow.failures`; empty where none did.

    Args:
        failures: a JSON list of failed nodes, which Argo gives as the text of a JSON string; an attempt that was
            followed by another is among them.
    """
    nodes: Any = failures or "[]"
    while isinstance(nodes, str):
        try:
            nodes = json.loads(nodes)
        except ValueError:
            return ""
    found = [
        _Failed(node["displayName"], node.get("message") or "", node.get("finishedAt") or "") for node in nodes or []
    ]
    # Among them may be the node above a task's attempts, which says only that it is not tried again, and the whole DAG's,
    # which says nothing; both end with the attempt, or a moment after it.
    tried = {task_of(node.name) for node in found if node.is_attempt}
    telling = [node for node in found if node.message and node.name not in tried] or found
    last = max(telling, key=lambda node: (node.finished, node.is_attempt), default=None)
    return f"{task_of(last.name)}: {reason(last.message)}" if last else ""


@dataclass(frozen=True)
class _Failed:
    name: str
    message: str
    finished: str

    @property
    def is_attempt(self) -> bool:
        return task_of(self.name) != self.name
