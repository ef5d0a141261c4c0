"""Where the base model's frozen weights lie during training: replicated in every process, or sharded across ranks."""

from pathlib import Path
from typing import Any, Protocol

from steps.common.model.base_model import load_base_model


class BasePlacement(Protocol):
    """Loads the base model and, where its weights are sharded, keeps the ranks' collectives in step.

    With a sharded base every rank has to issue the same broadcasts in the same order. So each round of passes is announced
    before it begins, and a rank with nothing left to compute still takes part in the rounds of the others.
    """

    def load(self, folder: Path, device: str, *, in_4_bits: bool) -> Any:
        """Return the model in `folder`, ready for this rank's forward and backward passes."""

    def begin_forward_passes(self, count: int) -> None:
        """Announce `count` forward passes without gradients; every rank announces the same number and may make fewer."""

    def begin_training_pass(self, *, reference_pass: bool) -> None:
        """Announce a forward and a backward pass over a part of this rank's share of a step.

        Args:
            reference_pass: whether a forward pass without gradients comes first.
        """

    def end_pass(self) -> None:
        """End the announced passes, however far this rank got."""

    def shadow_remaining_passes(self) -> None:
        """Take part in the passes of the other ranks until none has any left."""


class ReplicatedBase:
    """The whole base model in each process: no rank needs another one for its passes."""

    def load(self, folder: Path, device: str, *, in_4_bits: bool) -> Any:
        """Return the model in `folder`."""
        return load_base_model(folder, device, in_4_bits=in_4_bits)

    def begin_forward_passes(self, count: int) -> None:
        """Do nothing."""

    def begin_training_pass(self, *, reference_pass: bool) -> None:
        """Do nothing."""

    def end_pass(self) -> None:
        """Do nothing."""

    def shadow_remaining_passes(self) -> None:
        """Do nothing."""
