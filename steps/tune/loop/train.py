"""The training itself: from the newest complete checkpoint, to the last step or a signal."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from recipes.tuning import Tune
from steps.common.runtime.errors import InterruptedStepError, UserError
from steps.common.runtime.progress import Progress, say
from steps.tune.loop.checkpoints import newest_complete, step_of
from steps.tune.loop.halving import Room
from steps.tune.loop.held_out import LOSS, HeldOut
from steps.tune.loop.optimizer import optimizer
from steps.tune.loop.stop import Stop, Stopped
from steps.tune.loop.trainer import Enough, StepTrainer
from steps.tune.objective.loss import Objective, Pack
from steps.tune.together.base_weights import BaseWeights
from steps.tune.together.team import Team

Log = Callable[[int, dict[str, float]], None]
LOGGED = ("loss", "grad_norm", "learning_rate", "reward_margin", "reward_accuracy")


@dataclass(frozen=True)
class Trained:
    """What the training came to."""

    steps: int
    resumed_from: int
    history: list[dict[str, float]]  # of each step, from the first: step, and what is LOGGED
    held_out: list[tuple[int, float]]  # step and loss on other rows, where it was measured
    kept_step: int  # whose adapter it is
    seconds: float  # that this process has trained
    tokens: int  # trained on in this process


class _Tell(TrainerCallback):  # type: ignore[misc]
    """Tells the progress."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.progress: Progress | None = None

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self.progress = Progress(state.max_steps, "steps")
        self.progress.resume_from(state.global_step)

    def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and LOSS in logs:
            self.log(state.global_step, {LOSS: float(logs[LOSS])})
            say(f"held-out loss {logs[LOSS]:.3f} after step {state.global_step}")
        if not logs or "loss" not in logs:
            return
        self.log(state.global_step, {name: float(logs[name]) for name in LOGGED if name in logs})
        if self.progress:
            self.progress.update(state.global_step, f"loss {logs['loss']:.3f}")


def train(
    model: Any,
    steps: list[list[Pack]],
    objective: Objective,
    held_out: HeldOut,
    tune: Tune,
    folder: Path,
    device: str,
    *,
    team: Team,
    base: BaseWeights,
    room: Room,
    stop: Stop,
    log: Log,
    beat: Callable[[], None],
) -> Trained:
    """Train to the end.

    Args:
        model: the PEFT model.
        steps: the packs of each optimizer step.
        objective: what is made smaller.
        held_out: when what is learnt is measured on other rows, and what follows.
        tune: rate and the rest.
        folder: of the checkpoints.
        device: "cpu" or "cuda".
        team: the processes that train side by side.
        base: where the weights lie that are not learnt.
        room: how many tokens are computed at once.
        stop: what ends it before its end.
        log: called with the step and what is LOGGED of it.
        beat: called after each micro-batch.

    Raises:
        InterruptedStepError: SIGTERM came; the checkpoint of the last finished step is kept.
        UserError: a limit was reached; likewise. Or the memory does not hold one row.
    """
    arguments = _arguments(tune, len(steps), folder, on_cpu=device == "cpu")
    trainer = StepTrainer(
        model=model,
        args=arguments,
        optimizers=(optimizer(model, arguments, tune), None),
        train_dataset=steps,
        callbacks=[_Tell(log)] if team.leads else [],
        steps=steps,
        objective=objective,
        held_out=held_out,
        team=team,
        base=base,
        room=room,
        stop=stop,
        beat=beat,
    )
    trainer.pop_callback("PrinterCallback")
    checkpoint = newest_complete(folder)
    resumed_from = step_of(checkpoint) if checkpoint else 0
    if checkpoint and team.leads:
        say(f"going on from the checkpoint of step {resumed_from}")
    began = time.monotonic()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        trainer.look(model)
    except Enough:
        if team.leads and trainer.state.global_step < len(steps):
            say(f"the held-out loss has not become lower for {tune.patience} measurements: enough is learnt")
    except Stopped:
        trainer.keep()
        raise _why(stop, trainer.state.global_step, len(steps)) from None
    seconds = time.monotonic() - began - trainer.measuring_seconds
    done, logged = trainer.state.global_step, trainer.state.log_history
    history = [entry for entry in logged if "loss" in entry]
    return Trained(
        steps=done,
        resumed_from=resumed_from,
        history=[{name: entry[name] for name in ("step", *LOGGED) if name in entry} for entry in history],
        held_out=[(round(entry["step"]), entry[LOSS]) for entry in logged if LOSS in entry],
        kept_step=(held_out.take_best(model, logged) if team.leads else 0) or done,
        seconds=seconds,
        tokens=sum(len(row.input_ids) for step in steps[resumed_from:done] for pack in step for row in pack),
    )


def _why(stop: Stop, step: int, steps: int) -> Exception:
    if stop.told:
        return InterruptedStepError(f"stopped after step {step} of {steps}; its checkpoint is kept")
    return UserError(
        f"the limit of compute.max_cost or compute.max_hours is reached after step {step} of {steps}; its checkpoint is "
        "kept: raise the limit and run the same recipe again, and it goes on from there"
    )


def _arguments(tune: Tune, steps: int, folder: Path, *, on_cpu: bool) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        learning_rate=tune.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        warmup_steps=tune.warmup,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,  # a batch is a step
        optim="adamw_torch" if on_cpu else "paged_adamw_8bit",
        weight_decay=tune.weight_decay,
        max_grad_norm=tune.max_grad_norm,
        bf16=not on_cpu,
        use_cpu=on_cpu,
        save_strategy="steps",
        save_steps=tune.checkpoint_every,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=tune.seed,
    )
