"""The training itself: transformers' Trainer over packs, from the newest complete checkpoint, to the last step or a signal."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from recipes.recipe import Tune
from steps.common.errors import InterruptedStepError, UserError
from steps.common.progress import Progress, say
from steps.tune.checkpoints import newest_complete
from steps.tune.limits import Limits
from steps.tune.objective import Objective, Pack

LOGGED = ("loss", "grad_norm", "learning_rate", "reward_margin", "reward_accuracy")

Log = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Trained:
    """What the training came to."""

    steps: int
    resumed_from: int
    losses: list[tuple[int, float]]  # (step, loss)
    seconds: float
    tokens: int  # trained on in this process
    rewards: list[tuple[int, float, float]]  # of a preference: (step, mean margin, share of margins above zero)


class PackTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose loss is summed over an optimizer step's items, tokens or pairs, and divided by their number."""

    def __init__(self, objective: Objective, **others: Any) -> None:
        super().__init__(data_collator=lambda batch: {"pack": batch[0]}, **others)
        self.objective = objective
        self.model_accepts_loss_kwargs = True  # the loss is divided once, by a whole step's items

    def get_batch_samples(self, *given: Any) -> tuple[list[dict[str, Pack]], int]:
        """Return the packs of the next step, and how many items they have."""
        samples, _ = super().get_batch_samples(*given)
        return samples, sum(self.objective.items(sample["pack"]) for sample in samples)

    def floating_point_ops(self, inputs: dict[str, Pack]) -> int:
        """Count nothing: it would have to be told of tensors."""
        return 0

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Pack],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Return the pack's share of the step's mean loss."""
        total = self.objective.loss(model, inputs["pack"], self.args.device)
        return total / (num_items_in_batch or self.objective.items(inputs["pack"]))

    def log(self, logs: dict[str, float], *others: Any) -> None:
        """Log a step, with what the objective has to say of it."""
        super().log({**logs, **self.objective.values()} if "loss" in logs else logs, *others)


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Tells the progress, and ends the training after the step in which SIGTERM came or a limit was reached."""

    def __init__(self, log: Log, limits: Limits, beat: Callable[[], None]) -> None:
        self.log = log
        self.limits = limits
        self.beat = beat
        self.told_to_stop = False
        self.over_limit = False
        self.losses: list[tuple[int, float]] = []
        self.rewards: list[tuple[int, float, float]] = []
        self.progress: Progress | None = None
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self.told_to_stop = True

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self.progress = Progress(state.max_steps, "steps")
        self.progress.begin_at(state.global_step)

    def on_substep_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        self.beat()

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
        self.beat()
        self.over_limit = self.limits.reached()
        if self.told_to_stop or self.over_limit:
            control.should_save = True
            control.should_training_stop = True

    def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        self.losses.append((state.global_step, float(logs["loss"])))
        values: dict[str, float] = {name: float(logs[name]) for name in LOGGED if name in logs}
        self.log(state.global_step, values)
        if "reward_margin" in values:
            self.rewards.append((state.global_step, values["reward_margin"], values["reward_accuracy"]))
        if self.progress:
            self.progress.update(state.global_step, f"loss {logs['loss']:.3f}")


def train(
    model: Any,
    packs: list[Pack],
    objective: Objective,
    tune: Tune,
    accumulate: int,
    folder: Path,
    device: str,
    log: Log,
    limits: Limits,
    beat: Callable[[], None],
) -> Trained:
    """Train to the end.

    Args:
        model: the PEFT model.
        packs: micro-batches.
        objective: what is learnt from them.
        tune: rate, epochs and the rest.
        accumulate: micro-batches in an optimizer step.
        folder: of the checkpoints.
        device: "cpu" or "cuda".
        log: called with the step and its loss, gradient norm and rate, and what the objective adds.
        limits: of money and time.
        beat: called after each micro-batch.

    Raises:
        InterruptedStepError: SIGTERM came; the checkpoint of the step then at work is kept.
        UserError: a limit was reached; likewise.
    """
    on_cpu = device == "cpu"
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=tune.epochs,
        learning_rate=tune.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=tune.warmup,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=accumulate,
        optim="adamw_torch" if on_cpu else "paged_adamw_8bit",
        weight_decay=tune.weight_decay,
        max_grad_norm=tune.max_grad_norm,
        bf16=not on_cpu,
        use_cpu=on_cpu,
        save_strategy="steps",
        save_steps=tune.checkpoint_every,
        save_total_limit=2,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=not on_cpu,
        seed=tune.seed,
    )
    watch = _Watch(log, limits, beat)
    trainer = PackTrainer(
        objective,
        model=model,
        args=arguments,
        train_dataset=packs,
        callbacks=[watch],
    )
    trainer.pop_callback("PrinterCallback")
    checkpoint = newest_complete(folder)
    resumed_from = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    if checkpoint:
        say(f"going on from the checkpoint of step {resumed_from}")
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    steps = trainer.state.global_step
    # A training told to stop returns as if it had ended (transformers' own just-in-time checkpoints do the same): only
    # the count of steps tells whether the adapter is finished.
    if steps < trainer.state.max_steps and watch.over_limit and not watch.told_to_stop:
        raise UserError(
            f"the limit of compute.max_cost or compute.max_hours is reached after step {steps} of "
            f"{trainer.state.max_steps}; its checkpoint is kept: raise the limit and run the same recipe again, and it goes on "
            "from there"
        )
    if steps < trainer.state.max_steps:
        raise InterruptedStepError(f"stopped after step {steps} of {trainer.state.max_steps}; its checkpoint is kept")
    seconds = float(result.metrics["train_runtime"])
    tokens = round(sum(len(r.input_ids) for p in packs for r in p) * tune.epochs * (1 - resumed_from / steps))
    return Trained(steps, resumed_from, watch.losses, seconds, tokens, watch.rewards)
