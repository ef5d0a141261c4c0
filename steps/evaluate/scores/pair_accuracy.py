"""Measures how often a model prefers the chosen answer of a held-out pair, and checks that against the gate.

As in direct preference optimisation (https://arxiv.org/abs/2305.18290), the reward of an answer is beta times the
log-probability that the model has gained on it over the base; the model prefers the chosen answer of a pair if its reward is
the higher one. The base itself has gained nothing, so it prefers nothing.
"""

import math
from typing import TYPE_CHECKING

from pydantic import BaseModel

from recipes.evaluation import Gate

if TYPE_CHECKING:
    from steps.evaluate.scores.score import Score

CHANCE = 0.5
ONE_SIDED_95 = 1.645  # quantile of the normal distribution


class PairAccuracy(BaseModel):
    """A model on the held-out pairs, relative to the base."""

    pairs: int
    preference_accuracy: float  # share of the pairs with a positive margin
    preference_margin: float  # mean reward of the chosen answers minus that of the rejected ones
    preference_loss: float  # mean loss per pair, in nats; log 2 if the model prefers nothing

    @property
    def lower_bound(self) -> float:
        """The accuracy's lower bound at 95% confidence (Wilson 1927, https://doi.org/10.2307/2276774)."""
        n, share, z = self.pairs, self.preference_accuracy, ONE_SIDED_95
        spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return (share + z * z / (2 * n) - spread) / (1 + z * z / n)

    def in_words(self) -> str:
        """Return the accuracy with the number of pairs."""
        return f"{self.preference_accuracy:.1%} of {self.pairs} held-out pairs"


def pair_accuracy(model: "Score", base: "Score", beta: float) -> PairAccuracy:
    """Return how often a model prefers the chosen answers, from its score and the base's on the same pairs."""
    margins = _margins(model, base, beta)
    count = len(margins)
    return PairAccuracy(
        pairs=count,
        preference_accuracy=sum(margin > 0 for margin in margins) / count,
        preference_margin=sum(margins) / count,
        preference_loss=sum(pair_losses(model, base, beta)) / count,
    )


def pair_losses(model: "Score", base: "Score", beta: float) -> list[float]:
    """Return the DPO loss of each pair, -log sigmoid(margin), in nats; log 2 if the model prefers nothing."""
    return [max(-margin, 0.0) + math.log1p(math.exp(-abs(margin))) for margin in _margins(model, base, beta)]


def _margins(model: "Score", base: "Score", beta: float) -> list[float]:
    """Return, for each pair, the reward of the chosen answer minus that of the rejected one."""
    nats = zip(model.nats, base.nats, model.rejected, base.rejected, strict=True)
    return [
        beta * ((chosen_base - chosen) - (rejected_base - rejected))
        for chosen, chosen_base, rejected, rejected_base in nats
    ]


def judge_preference(gate: Gate, accuracy: PairAccuracy) -> tuple[bool, str]:
    """Check a candidate's preferences against the gate's threshold and against chance: met or not, and in words."""
    text = f"prefers the chosen answer more than the base does in {accuracy.in_words()}"
    if accuracy.preference_accuracy < gate.preference_accuracy:
        return False, f"{text}; the gate requires {gate.preference_accuracy:.1%}"
    if accuracy.lower_bound <= CHANCE:
        return False, (
            f"{text}, which may be chance with so few (lower bound {accuracy.lower_bound:.1%}); hold out more pairs"
        )
    return True, text
