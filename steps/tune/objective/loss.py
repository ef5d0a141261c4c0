"""What a training makes smaller: the loss of a micro-batch, as a sum over what it is later divided by."""

from collections.abc import Callable
from typing import Any, Protocol

import torch

from steps.common.model.packs import to_tensors, token_losses

Pack = list[Any]  # rows, or pairs of them


def natural_length(_: Pack) -> int:
    """Return 0: a pack is as long as its tokens take."""
    return 0


class Objective(Protocol):
    """A loss that is a mean over the items of an optimizer step, however the step is cut into micro-batches."""

    def items(self, pack: Pack) -> int:
        """Return how many items of the mean the pack has."""

    def reads(self, pack: Pack) -> bool:
        """Return whether the base is asked of the pack before, by a forward pass without gradients."""

    def loss(self, model: torch.nn.Module, pack: Pack, device: torch.device) -> torch.Tensor:
        """Return the sum of the pack's items' losses, with its graph."""

    def sums(self) -> dict[str, float]:
        """Return what else there is to log, summed over the items since the last call."""


class NextToken:
    """The negative log-likelihood of the labelled tokens, in nats; its items are those tokens."""

    def __init__(self, length_of: Callable[[Pack], int] = natural_length) -> None:
        """Set it up.

        Args:
            length_of: tells to what length a pack is filled up, where it is to be more than its tokens take.
        """
        self._length_of = length_of

    def items(self, pack: Pack) -> int:
        """Return how many tokens are labelled: of each row all that are, but the first, which nothing precedes."""
        return sum(label >= 0 for row in pack for label in row.labels[1:])

    def reads(self, pack: Pack) -> bool:
        """Return False."""
        return False

    def loss(self, model: torch.nn.Module, pack: Pack, device: torch.device) -> torch.Tensor:
        """Return their sum."""
        tensors = to_tensors(pack, self._length_of(pack))
        return token_losses(model, {name: tensor.to(device) for name, tensor in tensors.items()}).sum()

    def sums(self) -> dict[str, float]:
        """Return nothing: the loss says it all."""
        return {}
