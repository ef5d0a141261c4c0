"""The fence: what keeps a process that has lost a model's serving lease from writing to the model's objects.

Each write names the resourceVersion of the object as it was read, and leaves the holder's fence on it. A new holder first
writes its fence on every object. So a process that was paused, lost the lease, and wakes up in the middle of a write is refused
by the API server, and a later write of it by the fence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steps.common.runtime.errors import InterruptedStepError
from steps.rollout.lease.right import ServingLease

FENCE = "fineline.dev/fence"  # annotation: of the holder that wrote the object last


@dataclass(frozen=True)
class Fence:
    """The fence of the holder of a serving lease."""

    lease: ServingLease

    @property
    def annotations(self) -> dict[str, str]:
        """What each write leaves on an object."""
        return {FENCE: str(self.lease.fence)}

    def check(self, found: Mapping[str, Any] | None) -> None:
        """Look, before a write, whether this process may still make it.

        Args:
            found: the object as it was read; None if there is none.

        Raises:
            TakenOverError: a rollback has taken the lease.
            InterruptedStepError: another process has taken it.
        """
        self.lease.check()
        if found is not None and fence_of(found) > self.lease.fence:
            raise InterruptedStepError(f"{found['kind']} {found['metadata']['name']} was changed by a later rollout")


def fence_of(item: Mapping[str, Any]) -> int:
    """Return the fence on an object; 0 if no holder has written it."""
    text = str((item["metadata"].get("annotations") or {}).get(FENCE, ""))
    return int(text) if text.isdigit() else 0
