"""What stops a training before its last step: SIGTERM, and the limits on cost and time.

SIGTERM is checked for before each micro-batch, because a step of many micro-batches may take longer than a pod's grace
period: the step is abandoned, and the checkpoint is that of the step before. The limits are checked after each step.
"""

import signal
import time
from dataclasses import dataclass, field

import torch

from steps.tune.distributed.process_group import ProcessGroup


class TrainingStopped(Exception):  # noqa: N818 - not an error
    """SIGTERM was received, or a limit was reached."""


@dataclass
class StopConditions:
    """Checks whether to stop. Once one rank has to stop, all do."""

    deadline: float = 0.0  # seconds since the epoch; 0: none
    sigterm_received: bool = field(default=False, init=False)
    deadline_reached: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, *_: object) -> None:
        self.sigterm_received = True

    def check(self, group: ProcessGroup, device: torch.device, *, after_step: bool) -> None:
        """Return if the training may go on.

        Args:
            group: whose ranks all call this at the same point.
            device: of this process.
            after_step: whether this process has just finished a step, so that stopping loses no work.

        Raises:
            TrainingStopped: it may not.
        """
        past_deadline = bool(self.deadline) and time.time() > self.deadline
        self.sigterm_received, self.deadline_reached = group.any(
            [self.sigterm_received, after_step and past_deadline], device
        )
        if self.sigterm_received or self.deadline_reached:
            raise TrainingStopped
