"""How well a model tells held-out pairs apart, and what the gate has to say of it.

The measure is that of direct preference optimisation (https://arxiv.org/abs/2305.18290): an answer's reward is beta times
what the model has added to its log-probability in the base, and a pair is told right where the chosen answer's is the
higher. The base itself, which has added nothing, has no such measure.
"""

import math
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from recipes.recipe import Gate
from steps.common.packs import TokenRow, pack, to_tensors
from steps.common.pairs import log_probabilities

if TYPE_CHECKING:
    from steps.evaluate.score import Score

CHANCE = 0.5
ONE_SIDED_95 = 1.645  # quantile of the normal distribution


class Preference(BaseModel):
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


def summed(model: Any, rows: list[TokenRow], micro: int, device: str) -> list[float]:
    """Return the log-probability of each row, in nats, summed over its labelled tokens.

    Args:
        model: in evaluation mode, without gradients.
        rows: the rows.
        micro: tokens in a micro-batch.
        device: "cpu" or "cuda".
    """
    found: dict[int, float] = {}
    for part in pack(rows, micro):
        inputs = {name: tensor.to(device) for name, tensor in to_tensors(part).items()}
        found |= dict(zip(map(id, part), log_probabilities(model, inputs, len(part))[0].tolist(), strict=True))
    return [found[id(row)] for row in rows]


def preference(model: "Score", base: "Score", beta: float) -> Preference:
    """Return how a model that was scored on pairs prefers them, against the base's score on the same."""
    margins = [
        beta * ((chosen - chosen_before) - (rejected - rejected_before))
        for (chosen, rejected), (chosen_before, rejected_before) in zip(model.pairs, base.pairs, strict=True)
    ]
    count = len(margins)
    return Preference(
        pairs=count,
        preference_accuracy=sum(margin > 0 for margin in margins) / count,
        preference_margin=sum(margins) / count,
        preference_loss=sum(_softplus(-margin) for margin in margins) / count,
    )


def judge_preference(
    gate: Gate, base: "Score", candidate: "Score", champion: "Score | None", beta: float
) -> tuple[list[str], list[str]]:
    """Hold a candidate's preferences against chance, the recipe's bound and the champion's.

    Args:
        gate: the recipe's.
        base: its score.
        candidate: its score, on the same pairs.
        champion: its score, likewise; None where there is none to compare with.
        beta: the recipe's.

    Returns:
        The checks that failed and those that were met, in words.
    """
    failed, met = [], []
    found = preference(candidate, base, beta)
    text = f"prefers the chosen answer more than the base does in {found.in_words()}"
    if found.preference_accuracy < gate.preference_accuracy:
        failed.append(f"{text}; the gate asks {gate.preference_accuracy:.1%}")
    elif found.at_least <= CHANCE:
        failed.append(f"{text}: of so few that may be chance (at least {found.at_least:.1%} are sure); hold out more")
    else:
        met.append(text)
    if champion:
        before = preference(champion, base, beta)
        text = (
            f"the champion prefers {before.preference_accuracy:.1%}, with a loss of {before.preference_loss:.3f} a pair"
        )
        here = f"{found.preference_accuracy:.1%} and {found.preference_loss:.3f} here"
        worse = found.preference_accuracy < before.preference_accuracy
        (failed if worse else met).append(f"{text}; {here}")
    return failed, met


def _softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))
