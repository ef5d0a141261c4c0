"""Trains from the newest complete checkpoint to the last step, early stopping, a limit or SIGTERM."""

import time
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from steps.common.nodes.ledger import REACHED
from steps.common.runtime.errors import InterruptedStepError, UserError
from steps.common.runtime.progress import Progress, say
from steps.tune.loop.checkpoints import checkpoint_step, latest_complete
from steps.tune.loop.held_out import HELD_OUT_LOSS
from steps.tune.loop.lora_plus import lora_plus_optimizer
from steps.tune.loop.stop_conditions import StopConditions, TrainingStopped
from steps.tune.loop.trainer import EarlyStopping, StepTrainer
from steps.tune.loop.training_setup import TrainingSetup

STEP_METRICS = ("loss", "grad_norm", "learning_rate", "reward_margin", "reward_accuracy")


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a training."""

    steps: int
    resumed_from: int  # step; 0: trained from the start
    history: list[dict[str, float]]  # of every step from the first: "step", and those of STEP_METRICS that it has
    held_out: list[tuple[int, float]]  # step and held-out loss of each evaluation
    kept_step: int  # the step whose adapter the model now has
    seconds: float  # of training in this process, without evaluations
    tokens: int  # trained on in this process


class _ProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Logs the metrics and shows the progress."""

    def __init__(self, setup: TrainingSetup) -> None:
        self._log_metrics = setup.log_metrics
        self._progress: Progress | None = None

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._progress = Progress(state.max_steps, "steps")
        self._progress.resume_from(state.global_step)

    def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and HELD_OUT_LOSS in logs:
            self._log_metrics(state.global_step, {HELD_OUT_LOSS: float(logs[HELD_OUT_LOSS])})
            say(f"held-out loss {logs[HELD_OUT_LOSS]:.3f} after step {state.global_step}")
        if not logs or "loss" not in logs:
            return
        self._log_metrics(state.global_step, {name: float(logs[name]) for name in STEP_METRICS if name in logs})
        if self._progress:
            self._progress.update(state.global_step, f"loss {logs['loss']:.3f}")


def train(setup: TrainingSetup) -> TrainingResult:
    """Train to the end.

    Raises:
        InterruptedStepError: SIGTERM was received; a checkpoint of the last finished step is saved.
        UserError: a limit was reached, and a checkpoint is saved; the loss is not finite; or a row does not fit in memory.
    """
    arguments = _training_arguments(setup)
    trainer = StepTrainer(
        setup,
        args=arguments,
        optimizers=(lora_plus_optimizer(setup.model, arguments, setup.tune), None),
        callbacks=[_ProgressCallback(setup)] if setup.group.is_main else [],
    )
    trainer.pop_callback("PrinterCallback")
    checkpoint = latest_complete(setup.checkpoints)
    resumed_from = checkpoint_step(checkpoint) if checkpoint else 0
    if checkpoint and setup.group.is_main:
        say(f"resuming from the checkpoint of step {resumed_from}")
    began = time.monotonic()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        trainer.evaluate_if_due(setup.model)
    except EarlyStopping:
        if setup.group.is_main and trainer.state.global_step < len(setup.steps):
            say(f"early stopping: the held-out loss has not improved in {setup.tune.patience} evaluations")
    except TrainingStopped:
        trainer.save_last_step()
        raise _stop_error(setup.stop, trainer.state.global_step, len(setup.steps)) from None
    seconds = time.monotonic() - began - trainer.evaluation_seconds
    last_step, logged = trainer.state.global_step, trainer.state.log_history
    return TrainingResult(
        steps=last_step,
        resumed_from=resumed_from,
        history=[
            {name: entry[name] for name in ("step", *STEP_METRICS) if name in entry}
            for entry in logged
            if "loss" in entry
        ],
        held_out=[(round(entry["step"]), entry[HELD_OUT_LOSS]) for entry in logged if HELD_OUT_LOSS in entry],
        kept_step=(setup.held_out.load_best(setup.model, logged) if setup.group.is_main else 0) or last_step,
        seconds=seconds,
        tokens=trainer.trained_tokens,
    )


def _stop_error(stop: StopConditions, step: int, steps: int) -> Exception:
    if stop.sigterm_received:
        return InterruptedStepError(f"stopped after step {step} of {steps}; a checkpoint is saved")
    return UserError(
        f"tune: {REACHED} after step {step} of {steps}; a checkpoint is saved: raise "
        "the limit and run the same recipe again to resume from it"
    )


def _training_arguments(setup: TrainingSetup) -> TrainingArguments:
    tune, on_cpu = setup.tune, setup.device == "cpu"
    return TrainingArguments(
        output_dir=str(setup.checkpoints),
        max_steps=len(setup.steps),
        learning_rate=tune.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=tune.warmup,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,  # a batch is a whole step; StepTrainer accumulates its micro-batches
        optim="adamw_torch" if on_cpu else "paged_adamw_8bit",
        weight_decay=tune.weight_decay,
        max_grad_norm=tune.max_grad_norm,
        bf16=not on_cpu,
        use_cpu=on_cpu,
        save_strategy="steps",
        save_steps=tune.checkpoint_every,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it logs a loss that is not finite as 0; StepTrainer ends the training instead
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=tune.seed,
    )
