"""transformers' Trainer, adapted so that a batch is a whole optimizer step.

A step is split as memory allows, shared among ranks, and can be abandoned before any micro-batch.
"""

import math
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer

from steps.common.runtime.errors import UserError
from steps.common.storage.files import publish
from steps.tune.loop.checkpoints import checkpoint_step, latest_complete
from steps.tune.loop.held_out import HELD_OUT_LOSS
from steps.tune.loop.token_budget import fits_in_memory
from steps.tune.loop.training_setup import TrainingSetup
from steps.tune.objective.objective import Pack

CHECKPOINTS_KEPT = 2
PARTIAL_CHECKPOINT = "writing"  # folder of the checkpoint that is being written


class EarlyStopping(Exception):  # noqa: N818 - not an error
    """The held-out loss no longer improves."""


class StepTrainer(Trainer):  # type: ignore[misc]
    """Trains on one list of packs per optimizer step."""

    def __init__(self, setup: TrainingSetup, **trainer_arguments: Any) -> None:
        """Set up the trainer.

        Args:
            setup: the training.
            trainer_arguments: of transformers' Trainer.
        """
        super().__init__(model=setup.model, train_dataset=setup.steps, **trainer_arguments)
        self._setup = setup
        self._checkpoints = Path(self.args.output_dir)
        self._random_state: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self._finished_a_step = False  # in this process
        self._objective_metrics: dict[str, float] = {}  # of the last step
        self.evaluation_seconds = 0.0  # in this process
        self.trained_tokens = 0  # in this process, by all ranks

    def get_train_dataloader(self) -> DataLoader[list[Pack]]:
        """Return the steps in order. Every rank loads the whole step and computes its share."""
        return DataLoader(self._setup.steps, batch_size=1, shuffle=False, collate_fn=lambda batch: batch[0])  # type: ignore[arg-type]

    def training_step(
        self, model: Any, inputs: list[Pack], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Accumulate the gradients of the step's mean loss, and return that loss.

        Raises:
            EarlyStopping: the held-out loss no longer improves.
            TrainingStopped: SIGTERM was received, or a limit was reached.
            UserError: the loss is not finite.
        """
        setup, device = self._setup, self.args.device
        self._random_state = _get_random_state()
        self.evaluate_if_due(model)
        model.train()
        items = max(1, sum(setup.objective.item_count(pack) for pack in inputs))
        own = setup.group.shard(inputs)
        loss = torch.zeros((), device=device)
        done = checked = 0
        while done < len(own):
            if done == checked:  # once per pack on every rank, however often a rank has to start the step over
                setup.base.shadow_remaining_passes()
                setup.stop.check(setup.group, device, after_step=not checked and self._finished_a_step)
                checked += 1
            too_large = self._accumulate(model, own[done], items, loss)
            if too_large is None:
                done += 1
            else:
                setup.budget.halve(too_large, self.state.global_step + 1)
                done = 0
                loss.zero_()
                model.zero_grad()
                _set_random_state(self._random_state)
                if device.type == "cuda":
                    torch.cuda.empty_cache()
            setup.heartbeat()
        setup.base.shadow_remaining_passes()
        setup.group.sum_gradients(model.parameters())
        self._objective_metrics = {
            name: float(setup.group.all_reduce(torch.tensor(total, device=device))) / items
            for name, total in setup.objective.pop_metrics().items()
        }
        self.trained_tokens += sum(len(row.input_ids) for pack in inputs for row in pack)
        self._finished_a_step = True
        loss = setup.group.all_reduce(loss)
        self._check_finite(float(loss))
        return loss

    def _check_finite(self, loss: float) -> None:
        """Stop a training that has diverged: from a loss that is not finite, no later step leads back.

        Raises:
            UserError: it has.
        """
        if math.isfinite(loss):
            return
        step, tune = self.state.global_step + 1, self._setup.tune
        if step == 1:
            raise UserError(
                f"tune: the loss of the first step is {loss}, before anything is learned: the base model cannot compute these "
                "rows in this precision; choose another model"
            )
        raise UserError(
            f"tune: the training diverged: the loss of step {step} is {loss}; lower tune.learning_rate, which is "
            f"{tune.learning_rate:g}"
        )

    def _accumulate(self, model: Any, pack: Pack | None, items: int, loss: torch.Tensor) -> Pack | None:
        """Add a pack's share of the step's loss and gradients; return the part that did not fit in memory, if any."""
        setup = self._setup
        for part in setup.budget.split(pack) if pack else []:
            setup.base.begin_training_pass(reference_pass=setup.objective.needs_reference_pass(part))
            fits = fits_in_memory(partial(self._forward_backward, model, part, items, loss))
            setup.base.end_pass()
            if not fits:
                return part
        return None

    def _forward_backward(self, model: Any, part: Pack, items: int, loss: torch.Tensor) -> None:
        share = self._setup.objective.loss(model, part, self.args.device) / items
        self.accelerator.backward(share)
        loss += share.detach()

    def evaluate_if_due(self, model: Any) -> None:
        """Evaluate the held-out loss after the last step, if it is due.

        This runs at the start of the next step, not at the end of the last one: an interrupted evaluation is then made up
        for when the training resumes.

        Raises:
            EarlyStopping: the patience is exhausted.
            TrainingStopped: the evaluation was interrupted.
        """
        setup, step, history = self._setup, self.state.global_step, self.state.log_history
        if not setup.held_out.is_due(step, history):
            return

        def before_pack() -> None:
            setup.stop.check(setup.group, self.args.device, after_step=False)
            setup.heartbeat()

        began = time.monotonic()
        loss = setup.held_out.evaluate(model, setup.group, setup.base, self.args.device, before_pack)
        self.evaluation_seconds += time.monotonic() - began
        super().log({HELD_OUT_LOSS: loss})
        if setup.group.is_main:
            setup.held_out.save_if_best(model, history)
        if setup.held_out.patience_exhausted(history):
            raise EarlyStopping

    def log(self, logs: dict[str, float], *others: Any) -> None:
        """Log a step, with the objective's own metrics."""
        super().log({**logs, **self._objective_metrics} if "loss" in logs else logs, *others)

    def save_last_step(self) -> None:
        """Save a checkpoint of the last finished step, unless there is one."""
        if self.state.global_step and self._random_state:
            _set_random_state(self._random_state)
            self._save_checkpoint(self.model, None)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint elsewhere and rename it into place, so that a visible checkpoint is complete and on disk."""
        final = self._checkpoints / f"checkpoint-{self.state.global_step}"
        latest = latest_complete(self._checkpoints)
        if not self._setup.group.is_main or (latest and checkpoint_step(latest) == self.state.global_step):
            return
        writing = self._checkpoints / PARTIAL_CHECKPOINT
        shutil.rmtree(writing, ignore_errors=True)
        shutil.rmtree(final, ignore_errors=True)
        self.args.output_dir = str(writing)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = str(self._checkpoints)
        publish(writing / final.name, final)
        shutil.rmtree(writing)
        for old in sorted(self._checkpoints.glob("checkpoint-*"), key=checkpoint_step)[:-CHECKPOINTS_KEPT]:
            shutil.rmtree(old)


def _get_random_state() -> tuple[torch.Tensor, torch.Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def _set_random_state(state: tuple[torch.Tensor, torch.Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
