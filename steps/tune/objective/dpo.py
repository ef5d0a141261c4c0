"""Direct preference optimisation: raises the likelihood of the chosen answer over the rejected one, relative to the base.

Rafailov et al. 2023, https://arxiv.org/abs/2305.18290, equation 7. The reference model is the base with the adapter
disabled, so no second model is loaded. Each pair's reference log-probabilities are computed once, when the pair is first
trained on, immediately before the step's own forward pass: on the same pack and in the same dtypes, so that a new adapter's
margin is exactly zero, not a rounding error.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from recipes.tuning import Tune
from steps.common.model.packs import to_tensors
from steps.common.model.pair_packs import TokenPair, log_probabilities
from steps.tune.objective.objective import no_padding


class DpoObjective:
    """The DPO loss. Its items are the pairs, regardless of their lengths."""

    def __init__(
        self, tune: Tune, padded_length: Callable[[list[TokenPair]], int] = no_padding, *, packed: bool
    ) -> None:
        """Set up the objective.

        Args:
            tune: beta, and the weight of the chosen answer's own loss.
            padded_length: returns the length, in tokens, to which a pack is padded; 0: only as far as `to_tensors` does.
            packed: compute all rows of a pack at once. False for a model whose packed rows attend to each other.
        """
        self._beta, self._sft_weight, self._padded_length, self._packed = (
            tune.beta,
            tune.sft_weight,
            padded_length,
            packed,
        )
        self._reference: dict[int, tuple[float, float]] = {}  # by pair number: log-probabilities of chosen and rejected
        self._margins: dict[int, torch.Tensor] = {}  # by pair number

    def item_count(self, pack: list[TokenPair]) -> int:
        """Return the number of pairs."""
        return len(pack)

    def needs_reference_pass(self, pack: list[TokenPair]) -> bool:
        """Return whether a pair of the pack has no reference log-probabilities yet."""
        return not all(pair.number in self._reference for pair in pack)

    def loss(self, model: Any, pack: list[TokenPair], device: torch.device) -> torch.Tensor:
        """Return the sum of the pairs' losses.

        With `tune.sft_weight`, the chosen answer's mean loss per token is added, as in https://arxiv.org/abs/2404.19733.
        """
        tensors = to_tensors([side for pair in pack for side in pair.sides], self._padded_length(pack))
        inputs = {name: tensor.to(device) for name, tensor in tensors.items()}
        reference = self._reference_log_probabilities(model, pack, inputs)
        sums, tokens = log_probabilities(model, inputs, 2 * len(pack), packed=self._packed)
        rewards = self._beta * (sums - reference)
        margins = rewards[::2] - rewards[1::2]
        self._margins |= {pair.number: margin for pair, margin in zip(pack, margins.detach(), strict=True)}
        loss = -logsigmoid(margins).sum()
        if self._sft_weight:
            loss = loss - self._sft_weight * (sums / tokens)[::2].sum()
        return loss

    def pop_metrics(self) -> dict[str, float]:
        """Return the sum of the reward margins, and the number of positive ones, over the pairs since the last call.

        Divided by the number of pairs, these are a step's mean reward margin and reward accuracy.
        """
        margins = torch.stack([*self._margins.values()]) if self._margins else torch.zeros(1)
        self._margins.clear()
        return {"reward_margin": float(margins.sum()), "reward_accuracy": float((margins > 0).sum())}

    def _reference_log_probabilities(
        self, model: Any, pack: list[TokenPair], inputs: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the base model's log-probability of each answer, chosen and rejected alternating; shape (2 x pairs)."""
        if self.needs_reference_pass(pack):
            was_training = model.training
            model.eval()
            try:
                with torch.no_grad(), model.disable_adapter():
                    sides = log_probabilities(model, inputs, 2 * len(pack), packed=self._packed)[0].tolist()
            finally:  # this pass may run out of memory, and the step is then computed again in smaller packs
                model.train(was_training)
            for pair, chosen, rejected in zip(pack, sides[::2], sides[1::2], strict=True):
                self._reference[pair.number] = chosen, rejected
        known = [side for pair in pack for side in self._reference[pair.number]]
        return torch.tensor(known, device=inputs["input_ids"].device)
