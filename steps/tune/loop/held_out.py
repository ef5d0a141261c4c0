"""The held-out loss during training: a curve for the report and, with `tune.patience`, early stopping."""

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recipes.tuning import Tune
from steps.common.model.packs import Packable, pack
from steps.common.model.prepared_rows import PreparedRows
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.tune.distributed.base_placement import BasePlacement
from steps.tune.distributed.process_group import ProcessGroup
from steps.tune.loop.token_budget import fits_in_memory
from steps.tune.objective.objective import Objective, Pack

HELD_OUT_LOSS = "held_out_loss"  # its name among the logged metrics
BEST_FILE = "best-{}.pt"  # the adapter with the lowest held-out loss, by step; next to the checkpoints

History = Sequence[dict[str, float]]  # the Trainer's log


def select_rows(rows: PreparedRows[Any], tune: Tune, train_tokens: int) -> PreparedRows[Any]:
    """Return the held-out rows to evaluate on, evenly spaced: as many as `Tune.evaluated_tokens` allows.

    Args:
        rows: all held-out rows.
        tune: sets the number of evaluations.
        train_tokens: trained on, over all epochs.
    """
    tokens = int(rows.lengths.sum())
    if not tokens:
        return rows
    tokens_per_evaluation = tune.evaluated_tokens(train_tokens, tokens) / (tune.evaluations + 1)
    count = max(1, min(len(rows), int(len(rows) * tokens_per_evaluation / tokens)))
    return rows.select([index * len(rows) // count for index in range(count)])


class HeldOutEvaluation:
    """When to evaluate on held-out rows, how, and whether to stop early."""

    def __init__(
        self, rows: Sequence[Packable], objective: Objective, steps: int, tune: Tune, tokens: int, folder: Path
    ) -> None:
        """Set up the evaluation.

        Args:
            rows: to evaluate on.
            objective: the loss. Not the training's own instance, which caches what it has computed of the training pairs.
            steps: number of optimizer steps of the training.
            tune: number of evaluations, and patience.
            tokens: per forward pass.
            folder: where the adapter with the lowest loss is saved if there is a patience.
        """
        self._rows, self._objective, self._tokens = rows, objective, tokens
        self._patience, self._folder = tune.patience, folder
        count = tune.evaluations if rows else 0
        self._steps = {round(steps * number / count) for number in range(count + 1)} if count else set()

    def is_due(self, step: int, history: History) -> bool:
        """Return whether the loss after a step is to be evaluated and has not been yet."""
        return step in self._steps and not any(HELD_OUT_LOSS in entry and entry["step"] == step for entry in history)

    def evaluate(
        self,
        model: Any,
        group: ProcessGroup,
        base: BasePlacement,
        device: torch.device,
        before_pack: Callable[[], None],
    ) -> float:
        """Return the loss: nats per labelled token, or the mean DPO loss per pair.

        Args:
            model: the PEFT model.
            group: whose ranks all evaluate, each its share of the packs.
            base: placement of the base model's weights.
            device: of this process.
            before_pack: called before each pack.
        """
        was_training = model.training
        model.eval()
        try:
            while True:
                packs = pack(self._rows, self._tokens)
                total = self._summed_loss(model, packs, group, base, device, before_pack)
                if total is not None:
                    return total / max(1, sum(self._objective.item_count(one) for one in packs))
                self._tokens = max(1, self._tokens // 2)
        finally:
            model.train(was_training)
            self._objective.pop_metrics()

    def _summed_loss(
        self,
        model: Any,
        packs: Sequence[Pack],
        group: ProcessGroup,
        base: BasePlacement,
        device: torch.device,
        before_pack: Callable[[], None],
    ) -> float | None:
        """Return the sum of the packs' losses; None if a pack does not fit in some rank's memory."""
        total = torch.zeros((), device=device)
        for number in group.shard(range(len(packs))):
            one = None if number is None else packs[number]
            before_pack()
            (reference_pass,) = group.any([one is not None and self._objective.needs_reference_pass(one)], device)
            base.begin_forward_passes(1 + reference_pass)
            fits = one is None or fits_in_memory(partial(self._add_loss, model, one, device, total))
            base.end_pass()
            if not fits and one is not None and len(one) == 1:
                raise UserError(
                    f"tune: out of memory with one held-out row of {len(one[0].input_ids)} tokens; lower data.max_tokens, or "
                    "set tune.evaluations=0"
                )
            if any(group.any([not fits], device)):
                if group.is_main:
                    say(f"out of memory with {self._tokens} held-out tokens in one pass: halving them from now on")
                return None
        return float(group.all_reduce(total))

    def _add_loss(self, model: Any, one: Pack, device: torch.device, total: torch.Tensor) -> None:
        with torch.no_grad():
            total += self._objective.loss(model, one, device)

    def patience_exhausted(self, history: History) -> bool:
        """Return whether the last `tune.patience` evaluations have not improved on the lowest loss."""
        evaluated = _evaluated(history)
        return bool(self._patience and evaluated and len(evaluated) - 1 - _lowest(evaluated) >= self._patience)

    def save_if_best(self, model: Any, history: History) -> None:
        """Save the adapter if there is a patience and its loss is the lowest so far."""
        evaluated = _evaluated(history)
        if not self._patience or not evaluated or _lowest(evaluated) != len(evaluated) - 1:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        earlier = sorted(self._folder.glob(BEST_FILE.format("*")), key=lambda file: file.stat().st_mtime)
        trainable = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        partial_file, file = self._folder / "best.writing", self._file(evaluated[-1][0])
        with partial_file.open("wb") as out:
            torch.save({name: weight.detach().cpu() for name, weight in trainable.items()}, out)
            out.flush()
            os.fsync(out.fileno())
        partial_file.replace(file)
        # The previous best stays: an attempt that resumes from an earlier checkpoint may evaluate that one as the lowest.
        for old in earlier[:-1]:
            old.unlink()

    def load_best(self, model: Any, history: History) -> int:
        """Load the adapter with the lowest loss into the model and return its step; return 0 if none was saved."""
        saved = [(step, loss) for step, loss in _evaluated(history) if self._file(step).exists()]
        if not self._patience or not saved:
            return 0
        step = saved[_lowest(saved)][0]
        best = torch.load(self._file(step), weights_only=True)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in best:
                    weight.copy_(best[name])
        return round(step)

    def _file(self, step: float) -> Path:
        return self._folder / BEST_FILE.format(round(step))


def _evaluated(history: History) -> list[tuple[float, float]]:
    """Return steps and losses, without that of step 0, the untrained adapter."""
    return [(entry["step"], entry[HELD_OUT_LOSS]) for entry in history if HELD_OUT_LOSS in entry and entry["step"]]


def _lowest(evaluated: list[tuple[float, float]]) -> int:
    """Return the index of the lowest loss."""
    losses = [loss if math.isfinite(loss) else math.inf for _, loss in evaluated]
    return losses.index(min(losses))
