"""Direct preference optimisation: the chosen answer is made likelier than the rejected one, held against the base.

Rafailov et al. 2023, https://arxiv.org/abs/2305.18290, equation 7. The reference is the base with the adapter switched
off, so that no second model is loaded; each pair is read with it once, when it is first trained on, right before the step's
own forward pass: on the same pack and in the same types, so that a new adapter's margin is zero and not rounding.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from recipes.tuning import Tune
from steps.common.model.packs import to_tensors
from steps.common.model.pair_packs import TokenPair, log_probabilities
from steps.tune.objective.loss import natural_length


class DirectPreference:
    """The loss of pairs; its items are those pairs, however many tokens they have."""

    def __init__(
        self, tune: Tune, length_of: Callable[[list[TokenPair]], int] = natural_length, *, packed: bool
    ) -> None:
        """Set it up.

        Args:
            tune: beta and the weight of the chosen answer's own loss.
            length_of: tells to what length a pack is filled up, where it is to be more than its tokens take.
            packed: whether a pack is computed at once; False for a model in which its rows see each other.
        """
        self._beta, self._sft_weight, self._length_of, self._packed = tune.beta, tune.sft_weight, length_of, packed
        self._reference: dict[int, tuple[float, float]] = {}  # by the pair's number: chosen, rejected
        self._margins: dict[int, torch.Tensor] = {}  # likewise

    def items(self, pack: list[TokenPair]) -> int:
        """Return how many pairs there are."""
        return len(pack)

    def reads(self, pack: list[TokenPair]) -> bool:
        """Return whether the base has still to be asked of one of the pairs."""
        return not all(pair.number in self._reference for pair in pack)

    def loss(self, model: Any, pack: list[TokenPair], device: torch.device) -> torch.Tensor:
        """Return the sum of the pairs' losses.

        With `tune.sft_weight`, the chosen answer's mean loss a token is added, as in https://arxiv.org/abs/2404.19733.
        """
        tensors = to_tensors([side for pair in pack for side in pair.sides], self._length_of(pack))
        inputs = {name: tensor.to(device) for name, tensor in tensors.items()}
        reference = self._of_the_base(model, pack, inputs)
        sums, tokens = log_probabilities(model, inputs, 2 * len(pack), packed=self._packed)
        rewards = self._beta * (sums - reference)
        margins = rewards[::2] - rewards[1::2]
        self._margins |= {pair.number: margin for pair, margin in zip(pack, margins.detach(), strict=True)}
        loss = -logsigmoid(margins).sum()
        if self._sft_weight:
            loss = loss - self._sft_weight * (sums / tokens)[::2].sum()
        return loss

    def sums(self) -> dict[str, float]:
        """Return the sums of margins, and of those above zero, over the pairs since the last call.

        Divided by the number of pairs these are a step's mean reward margin and reward accuracy.
        """
        margins = torch.stack([*self._margins.values()]) if self._margins else torch.zeros(1)
        self._margins.clear()
        return {"reward_margin": float(margins.sum()), "reward_accuracy": float((margins > 0).sum())}

    def _of_the_base(self, model: Any, pack: list[TokenPair], inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return what the base gives each side of the pack, chosen and rejected in turn; of shape (2 x pairs)."""
        if self.reads(pack):
            was_training = model.training
            model.eval()
            try:
                with torch.no_grad(), model.disable_adapter():
                    sides = log_probabilities(model, inputs, 2 * len(pack), packed=self._packed)[0].tolist()
            finally:  # memory may run out in it: then the step is computed again in smaller packs
                model.train(was_training)
            for pair, chosen, rejected in zip(pack, sides[::2], sides[1::2], strict=True):
                self._reference[pair.number] = chosen, rejected
        known = [side for pair in pack for side in self._reference[pair.number]]
        return torch.tensor(known, device=inputs["input_ids"].device)
