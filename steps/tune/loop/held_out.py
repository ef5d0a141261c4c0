"""The held-out loss while it is learnt: a curve for the report, and, with `tune.patience`, the end of the training."""

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from recipes.tuning import Tune
from steps.common.model.packs import Packable, pack
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.tune.loop.halving import fits
from steps.tune.objective.loss import Objective, Pack
from steps.tune.together.base_weights import BaseWeights
from steps.tune.together.team import Team

LOSS = "held_out_loss"  # what it is called where steps are logged
BEST = "best-{}.pt"  # the adapter of the lowest after that step, beside the checkpoints

Row = TypeVar("Row", bound=Packable)
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

    def __init__(
        self, rows: Sequence[Packable], objective: Objective, steps: int, tune: Tune, tokens: int, folder: Path
    ) -> None:
        """Set it up.

        Args:
            rows: that are measured.
            objective: the loss; not the one of the training, which keeps what it has read of its own pairs.
            steps: of the training.
            tune: how often, and with what patience.
            tokens: that are computed at once.
            folder: where the adapter of the lowest loss is kept, if that is wanted.
        """
        self._rows, self._objective, self._tokens = rows, objective, tokens
        self._patience, self._folder = tune.patience, folder
        times = tune.evaluations if rows else 0
        self._at = {round(steps * time / times) for time in range(times + 1)} if times else set()

    def owed(self, step: int, history: History) -> bool:
        """Tell whether the loss after a step is to be measured, and was not."""
        return step in self._at and not any(LOSS in entry and entry["step"] == step for entry in history)

    def measure(
        self, model: Any, team: Team, base: BaseWeights, device: torch.device, before_each: Callable[[], None]
    ) -> float:
        """Return the loss: nats a labelled token, or what a preference has a pair.

        Args:
            model: as it is.
            team: all of whose processes measure, each its share.
            base: where the weights lie that are not learnt.
            device: of this process.
            before_each: called before each pack.
        """
        was_training = model.training
        model.eval()
        try:
            while True:
                packs = pack(self._rows, self._tokens)
                total = self._total(model, packs, team, base, device, before_each)
                if total is not None:
                    return total / max(1, sum(self._objective.items(one) for one in packs))
                self._tokens = max(1, self._tokens // 2)
        finally:
            model.train(was_training)
            self._objective.sums()

    def _total(
        self,
        model: Any,
        packs: list[Pack],
        team: Team,
        base: BaseWeights,
        device: torch.device,
        before_each: Callable[[], None],
    ) -> float | None:
        """Return the sum of the packs' losses; None where the memory of one process does not hold a pack."""
        total = torch.zeros((), device=device)
        for one in team.share(packs):
            before_each()
            (reads,) = team.any([one is not None and self._objective.reads(one)], device)
            base.begin_reading(1 + reads)
            enough = one is None or fits(partial(self._add, model, one, device, total))
            base.end()
            if not enough and one is not None and len(one) == 1:
                raise UserError(
                    f"tune: out of memory with one held-out row of {len(one[0].input_ids)} tokens; lower data.max_tokens, or "
                    "set tune.evaluations=0"
                )
            if any(team.any([not enough], device)):
                if team.leads:
                    say(f"out of memory with {self._tokens} held-out tokens at once: half as many from now on")
                return None
        return float(team.total(total))

    def _add(self, model: Any, one: Pack, device: torch.device, total: torch.Tensor) -> None:
        with torch.no_grad():
            total += self._objective.loss(model, one, device)

    def enough(self, history: History) -> bool:
        """Tell whether the loss has not become lower for as long as patience lasts."""
        measured = _measured(history)
        return bool(self._patience and measured and len(measured) - 1 - _lowest(measured) >= self._patience)

    def keep(self, model: Any, history: History) -> None:
        """Keep the adapter as it is, where its loss is the lowest so far and the lowest is wanted."""
        measured = _measured(history)
        if not self._patience or not measured or _lowest(measured) != len(measured) - 1:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        before = sorted(self._folder.glob(BEST.format("*")), key=lambda file: file.stat().st_mtime)
        learnt = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        beside, file = self._folder / "best.writing", self._file(measured[-1][0])
        with beside.open("wb") as out:
            torch.save({name: weight.detach().cpu() for name, weight in learnt.items()}, out)
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
        # The one before stays: an attempt that goes on from an earlier checkpoint may come to find that one lower.
        for old in before[:-1]:
            old.unlink()

    def take_best(self, model: Any, history: History) -> int:
        """Give the model the adapter of the lowest loss, where that is wanted; return the step that it is of, or 0."""
        kept = [(step, loss) for step, loss in _measured(history) if self._file(step).exists()]
        if not self._patience or not kept:
            return 0
        step = kept[_lowest(kept)][0]
        learnt = torch.load(self._file(step), weights_only=True)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in learnt:
                    weight.copy_(learnt[name])
        return round(step)

    def _file(self, step: float) -> Path:
        return self._folder / BEST.format(round(step))


def _measured(history: History) -> list[tuple[float, float]]:
    """Return steps and losses, but for that of the model that has learnt nothing."""
    return [(entry["step"], entry[LOSS]) for entry in history if LOSS in entry and entry["step"]]


def _lowest(measured: list[tuple[float, float]]) -> int:
    losses = [loss if math.isfinite(loss) else math.inf for _, loss in measured]
    return losses.index(min(losses))
