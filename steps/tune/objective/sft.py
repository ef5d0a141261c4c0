"""Supervised fine-tuning: the next-token loss over the labelled tokens."""

from collections.abc import Callable

import torch

from steps.common.model.packs import to_tensors, token_losses
from steps.tune.objective.objective import Pack, no_padding


class SftObjective:
    """The negative log-likelihood of the labelled tokens, in nats. Its items are those tokens."""

    def __init__(self, padded_length: Callable[[Pack], int] = no_padding) -> None:
        """Set up the objective.

        Args:
            padded_length: returns the length, in tokens, to which a pack is padded; 0: only as far as `to_tensors` does.
        """
        self._padded_length = padded_length

    def item_count(self, pack: Pack) -> int:
        """Return the number of labelled tokens. A row's first token never counts: nothing precedes it."""
        return sum(label >= 0 for row in pack for label in row.labels[1:])

    def needs_reference_pass(self, pack: Pack) -> bool:
        """Return False."""
        return False

    def loss(self, model: torch.nn.Module, pack: Pack, device: torch.device) -> torch.Tensor:
        """Return the sum of the tokens' losses."""
        tensors = to_tensors(pack, self._padded_length(pack))
        return token_losses(model, {name: tensor.to(device) for name, tensor in tensors.items()}).sum()

    def pop_metrics(self) -> dict[str, float]:
        """Return no metrics beside the loss."""
        return {}
