"""transformers' Trainer, whose batch is a whole optimizer step: cut as memory allows, shared out, broken off at any pass."""

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer

from steps.common.storage.files import publish
from steps.tune.loop.checkpoints import newest_complete, step_of
from steps.tune.loop.halving import Room, fits
from steps.tune.loop.held_out import LOSS, HeldOut
from steps.tune.loop.stop import Stop
from steps.tune.objective.loss import Objective, Pack
from steps.tune.together.base_weights import BaseWeights
from steps.tune.together.team import Team

KEPT = 2  # checkpoints
WRITING = "writing"  # folder of the checkpoint that is being written


class Enough(Exception):  # noqa: N818 - it is no error
    """The held-out loss does not become lower any more."""


class StepTrainer(Trainer):  # type: ignore[misc]
    """Trains step by step on lists of packs."""

    def __init__(
        self,
        *,
        steps: list[list[Pack]],
        objective: Objective,
        held_out: HeldOut,
        team: Team,
        base: BaseWeights,
        room: Room,
        stop: Stop,
        beat: Callable[[], None],
        **others: Any,
    ) -> None:
        """Set it up.

        Args:
            steps: the packs of each optimizer step, of all epochs.
            objective: what is made smaller.
            held_out: when what is learnt is measured on other rows.
            team: who computes.
            base: where the weights lie that are not learnt.
            room: how many tokens at once.
            stop: asked before each pack whether to go on.
            beat: called after each pack.
            others: the Trainer's own.
        """
        super().__init__(**others)
        self._steps = steps
        self._objective = objective
        self._held_out = held_out
        self._team = team
        self._base = base
        self._room = room
        self._stop = stop
        self._beat = beat
        self._checkpoints = Path(self.args.output_dir)
        self._random: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self.measuring_seconds = 0.0  # in this process
        self._finished_one = False  # step, in this process
        self._also: dict[str, float] = {}  # what the objective has to tell of the last step

    def get_train_dataloader(self) -> DataLoader[list[Pack]]:
        """Return the steps in their order: each process is given the whole step, and takes its share of it."""
        return DataLoader(self._steps, batch_size=1, shuffle=False, collate_fn=lambda batch: batch[0])  # type: ignore[arg-type]

    def training_step(
        self, model: Any, inputs: list[Pack], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Leave the gradients of the step's mean loss, and return that.

        Raises:
            Enough: the step is not worth it.
            Stopped: it is not to be.
        """
        self._random = _random_state()
        self.look(model)
        model.train()
        items = max(1, sum(self._objective.items(pack) for pack in inputs))
        own = self._team.share(inputs)
        loss = torch.zeros((), device=self.args.device)
        done = asked = 0
        while done < len(own):
            if done == asked:  # once a pack in every process, whatever is computed again
                self._base.accompany()
                self._stop.ask(self._team, self.args.device, after_a_step=not asked and self._finished_one)
                asked += 1
            short_of = self._pass(model, own[done], items, loss)
            if short_of is None:
                done += 1
            else:
                self._room.halve(short_of, self.state.global_step + 1)
                done = 0
                loss.zero_()
                model.zero_grad()
                _set_random_state(self._random)
                if self.args.device.type == "cuda":
                    torch.cuda.empty_cache()
            self._beat()
        self._base.accompany()
        self._team.sum_gradients(model.parameters())
        self._also = {
            name: float(self._team.total(torch.tensor(total, device=self.args.device))) / items
            for name, total in self._objective.sums().items()
        }
        self._finished_one = True
        return self._team.total(loss)

    def _pass(self, model: Any, pack: Pack | None, items: int, loss: torch.Tensor) -> Pack | None:
        """Add a pack's part of the step's loss, and its gradients; return the part that there was no memory for."""
        for part in self._room.parts(pack) if pack else []:
            self._base.begin(reads=self._objective.reads(part))
            enough = fits(partial(self._learn, model, part, items, loss))
            self._base.end()
            if not enough:
                return part
        return None

    def _learn(self, model: Any, part: Pack, items: int, loss: torch.Tensor) -> None:
        share = self._objective.loss(model, part, self.args.device) / items
        self.accelerator.backward(share)
        loss += share.detach()

    def look(self, model: Any) -> None:
        """Measure the held-out loss after the last step, where that is due.

        Here, and not at that step's end: so it is made up for where it was broken off.

        Raises:
            Enough: it has not become lower for as long as patience lasts.
            Stopped: it was broken off.
        """
        step, history = self.state.global_step, self.state.log_history
        if not self._held_out.owed(step, history):
            return

        def before_each() -> None:
            self._stop.ask(self._team, self.args.device, after_a_step=False)
            self._beat()

        began = time.monotonic()
        loss = self._held_out.measure(model, self._team, self._base, self.args.device, before_each)
        self.measuring_seconds += time.monotonic() - began
        super().log({LOSS: loss})
        if self._team.leads:
            self._held_out.keep(model, history)
        if self._held_out.enough(history):
            raise Enough

    def log(self, logs: dict[str, float], *others: Any) -> None:
        """Log a step, with what the objective has to tell of it."""
        super().log({**logs, **self._also} if "loss" in logs else logs, *others)

    def keep(self) -> None:
        """Write a checkpoint of the last step that was finished, unless there is one."""
        if self.state.global_step and self._random:
            _set_random_state(self._random)
            self._save_checkpoint(self.model, None)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write it beside and rename it into place, so that each that is there is whole, and on the disk."""
        final = self._checkpoints / f"checkpoint-{self.state.global_step}"
        newest = newest_complete(self._checkpoints)
        if not self._team.leads or (newest and step_of(newest) == self.state.global_step):
            return
        writing = self._checkpoints / WRITING
        shutil.rmtree(writing, ignore_errors=True)
        shutil.rmtree(final, ignore_errors=True)
        self.args.output_dir = str(writing)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = str(self._checkpoints)
        publish(writing / final.name, final)
        shutil.rmtree(writing)
        for old in sorted(self._checkpoints.glob("checkpoint-*"), key=step_of)[:-KEPT]:
            shutil.rmtree(old)


def _random_state() -> tuple[torch.Tensor, torch.Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def _set_random_state(state: tuple[torch.Tensor, torch.Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
