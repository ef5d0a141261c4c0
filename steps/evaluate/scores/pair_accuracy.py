"""How well a model tells held-out pairs apart, and what the gate has to say of it.

The measure is that of direct preference optimisation (https://arxiv.org/abs/2305.18290): an answer's reward is beta times
what the model has added to its log-probability in the base, and a pair is told right where the chosen answer's is the
higher. The base itself, which has added nothing, has no such measure.
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
    """A model on the held-out pairs, against the base."""

    pairs: int
    preference_accuracy: float  # share with a margin above zero
    preference_margin: float  # mean of the chosen answer's reward less the rejected one's
    preference_loss: float  # mean loss of a pair, in nats; log 2 where nothing is preferred

    @property
    def at_least(self) -> float:
        """The accuracy's lower bound of 95 % confidence (Wilson 1927, https://doi.org/10.2307/2276774)."""
        n, share, z = self.pairs, self.preference_accuracy, ONE_SIDED_95
        spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return (share + z * z / (2 * n) - spread) / (1 + z * z / n)

    def in_words(self) -> str:
        """Return the accuracy, and of how many pairs."""
        return f"{self.preference_accuracy:.1%} of {self.pairs} held-out pairs"


def preference(model: "Score", base: "Score", beta: float) -> PairAccuracy:
    """Return how a model that was scored on pairs prefers them, against the base's score on the same."""
    margins = _margins(model, base, beta)
    count = len(margins)
    return PairAccuracy(
        pairs=count,
        preference_accuracy=sum(margin > 0 for margin in margins) / count,
        preference_margin=sum(margins) / count,
        preference_loss=sum(pair_losses(model, base, beta)) / count,
    )


def pair_losses(model: "Score", base: "Score", beta: float) -> list[float]:
    """Return the loss of each pair, in nats; log 2 where nothing is preferred."""
    return [max(-margin, 0.0) + math.log1p(math.exp(-abs(margin))) for margin in _margins(model, base, beta)]


def _margins(model: "Score", base: "Score", beta: float) -> list[float]:
    """Return each pair's reward of the chosen answer less that of the rejected one."""
    four = zip(model.nats, base.nats, model.rejected, base.rejected, strict=True)
    return [
        beta * ((chosen_before - chosen) - (other_before - other))
        for chosen, chosen_before, other, other_before in four
    ]


def judge_preference(gate: Gate, found: PairAccuracy) -> tuple[bool, str]:
    """Hold a candidate's preferences against the recipe's bound and against chance: met or not, and in words."""
    text = f"prefers the chosen answer more than the base does in {found.in_words()}"
    if found.preference_accuracy < gate.preference_accuracy:
        return False, f"{text}; the gate asks {gate.preference_accuracy:.1%}"
    if found.at_least <= CHANCE:
        return False, f"{text}: of so few that may be chance (at least {found.at_least:.1%} are sure); hold out more"
    return True, text
