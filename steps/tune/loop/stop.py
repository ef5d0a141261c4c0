"""Whether a training goes on: SIGTERM is looked for before each micro-batch, the limits of money and time after each step.

A step of many micro-batches may take longer than a pod is given to end, so a signal breaks off the step at work, and the
checkpoint is that of the step before.
"""

import signal
from dataclasses import dataclass, field

import torch

from steps.tune.loop.limits import Limits
from steps.tune.together.team import Team


class Stopped(Exception):  # noqa: N818 - it is no error
    """The training was told to stop, or has reached a limit."""


@dataclass
class Stop:
    """Looks for what ends a training; in a team, what ends one ends all."""

    limits: Limits
    told: bool = False
    over_limit: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        signal.signal(signal.SIGTERM, self._tell)

    def _tell(self, *_: object) -> None:
        self.told = True

    def ask(self, team: Team, device: torch.device, *, after_a_step: bool) -> None:
        """Return where the training may go on.

        Args:
            team: whose processes all ask, at the same moment.
            device: of the process.
            after_a_step: a step has just been finished here, so that stopping loses nothing.

        Raises:
            Stopped: it may not.
        """
        self.told, self.over_limit = team.any([self.told, after_a_step and self.limits.reached()], device)
        if self.told or self.over_limit:
            raise Stopped
