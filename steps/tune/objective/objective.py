"""What a training minimises: a loss summed over a micro-batch, to be divided by the item count of the whole step."""

from typing import Any, Protocol

import torch

Pack = list[Any]  # of `TokenRow`, or of `TokenPair`


def no_padding(_: Pack) -> int:
    """Return 0: a pack is only as long as its tokens require."""
    return 0


class Objective(Protocol):
    """A loss that is a mean over the items of an optimizer step, however the step is cut into micro-batches."""

    def item_count(self, pack: Pack) -> int:
        """Return how many items the pack contributes to the mean."""

    def needs_reference_pass(self, pack: Pack) -> bool:
        """Return whether `loss` will first run the base model over the pack, without gradients."""

    def loss(self, model: torch.nn.Module, pack: Pack, device: torch.device) -> torch.Tensor:
        """Return the sum of the losses of the pack's items, with its graph."""

    def pop_metrics(self) -> dict[str, float]:
        """Return further metrics to log, summed over the items since the last call."""
