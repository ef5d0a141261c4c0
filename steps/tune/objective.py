"""What a training makes smaller: the loss of a micro-batch, as a sum over what it is later divided by."""

from typing import Any, Protocol

import torch

from steps.common.packs import TokenRow, to_tensors, token_losses

Pack = list[Any]  # rows, or pairs of them


class Objective(Protocol):
    """A loss that is a mean over the items of an optimizer step, however the step is cut into micro-batches."""

    def items(self, pack: Pack) -> int:
        """Return how many items of the mean the pack has."""

    def loss(self, model: Any, pack: Pack, device: torch.device) -> torch.Tensor:
        """Return the sum of the pack's items' losses, with its graph."""

    def values(self) -> dict[str, float]:
        """Return what else there is to log of the packs since the last call."""


class NextToken:
    """The negative log-likelihood of the labelled tokens, in nats; its items are those tokens."""

    def items(self, pack: list[TokenRow]) -> int:
        """Return how many tokens are labelled: of each row all that are, but the first, which nothing precedes."""
        return sum(label >= 0 for row in pack for label in row.labels[1:])

    def loss(self, model: Any, pack: list[TokenRow], device: torch.device) -> torch.Tensor:
        """Return their sum."""
        return token_losses(model, {name: tensor.to(device) for name, tensor in to_tensors(pack).items()}).sum()

    def values(self) -> dict[str, float]:
        """Return nothing: the loss says it all."""
        return {}
