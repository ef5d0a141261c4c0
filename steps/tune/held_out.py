"""The held-out loss while it is learnt: a curve for the report, and, with `tune.patience`, the end of the training."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from recipes.tuning import Tune
from steps.common.packs import Tokens
from steps.tune.base import Base
from steps.tune.objective import Objective, Pack
from steps.tune.team import Team

LOSS = "held_out_loss"  # what it is called where steps are logged
BEST = "best.pt"  # the adapter of the lowest, beside the checkpoints

Row = TypeVar("Row", bound=Tokens)
History = Sequence[dict[str, float]]


def chosen(rows: Sequence[Row], tune: Tune, train_tokens: int) -> list[Row]:
    """Return the held-out rows that are measured, evenly spread: as many as the time for it is worth.

    Args:
        rows: all of them.
        tune: how often.
        train_tokens: learnt from, in all epochs.
    """
    tokens = sum(len(row.input_ids) for row in rows)
    if not tokens:
        return []
    a_time = tune.evaluated_tokens(train_tokens, tokens) / (tune.evaluations + 1)
    count = max(1, min(len(rows), int(len(rows) * a_time / tokens)))
    return [rows[place * len(rows) // count] for place in range(count)]


class HeldOut:
    """When the loss is measured, how, and what follows from it."""

    def __init__(self, packs: list[Pack], objective: Objective, steps: int, tune: Tune, folder: Path) -> None:
        """Set it up.

        Args:
            packs: the rows that are measured.
            objective: the loss; not the one of the training, which keeps what it has read of its own pairs.
            steps: of the training.
            tune: how often, and with what patience.
            folder: where the adapter of the lowest loss is kept, if that is wanted.
        """
        self._packs, self._objective, self._patience, self._file = packs, objective, tune.patience, folder / BEST
        times = tune.evaluations if packs else 0
        self._at = {round(steps * time / times) for time in range(times + 1)} if times else set()

    def owed(self, step: int, history: History) -> bool:
        """Tell whether the loss after a step is to be measured, and was not."""
        return step in self._at and not any(LOSS in entry and entry["step"] == step for entry in history)

    def measure(
        self, model: Any, team: Team, base: Base, device: torch.device, before_each: Callable[[], None]
    ) -> float:
        """Return the loss: nats a labelled token, or what a preference has a pair.

        Args:
            model: as it is.
            team: all of whose processes measure, each its share.
            base: where the weights lie that are not learnt.
            device: of this process.
            before_each: called before each pack.
        """
        total = torch.zeros((), device=device)
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                for pack in team.share(self._packs):
                    before_each()
                    (reads,) = team.any([pack is not None and self._objective.reads(pack)], device)
                    with base.reading(1 + reads):
                        if pack is not None:
                            total += self._objective.loss(model, pack, device)
        finally:
            model.train(was_training)
        self._objective.sums()
        return float(team.total(total)) / max(1, sum(self._objective.items(pack) for pack in self._packs))

    def enough(self, history: History) -> bool:
        """Tell whether the loss has not become lower for as long as patience lasts."""
        measured = _measured(history)
        return bool(self._patience and measured and len(measured) - 1 - _lowest(measured) >= self._patience)

    def keep(self, model: Any, history: History) -> None:
        """Keep the adapter as it is, where its loss is the lowest so far and the lowest is wanted."""
        measured = _measured(history)
        if self._patience and measured and _lowest(measured) == len(measured) - 1:
            beside = self._file.with_suffix(".writing")
            beside.parent.mkdir(parents=True, exist_ok=True)
            learnt = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
            torch.save({name: weight.detach().cpu() for name, weight in learnt.items()}, beside)
            beside.replace(self._file)

    def take_best(self, model: Any, history: History) -> int:
        """Give the model the adapter of the lowest loss, where that is wanted; return the step that it is of, or 0."""
        measured = _measured(history)
        if not self._patience or not measured:
            return 0
        kept = torch.load(self._file, weights_only=True)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in kept:
                    weight.copy_(kept[name])
        return round(measured[_lowest(measured)][0])


def _measured(history: History) -> list[tuple[float, float]]:
    """Return steps and losses, but for that of the model that has learnt nothing."""
    return [(entry["step"], entry[LOSS]) for entry in history if LOSS in entry and entry["step"]]


def _lowest(measured: list[tuple[float, float]]) -> int:
    losses = [loss if math.isfinite(loss) else math.inf for _, loss in measured]
    return losses.index(min(losses))
