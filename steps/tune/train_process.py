"""What each process of a tuning runs: load the model, train and, on the main rank, save the adapter and the report."""

import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from steps.common.handover.resolved import Hardware, Resolved, Rung
from steps.common.model.finite_weights import check_finite
from steps.common.model.packs import ISOLATION_PASSES, RowPacks, isolates_rows, packed_numbers
from steps.common.model.prepared_rows import TRAIN, VALIDATION, PreparedPairs, PreparedRows, PreparedTexts
from steps.common.rows.row_kinds import PAIRS
from steps.common.runtime.progress import say
from steps.tune.loop.micro_batch_plan import PLAN_FILE, MicroBatchPlan, plan_micro_batches, save_plan
from steps.tune.loop.watchdog import Watchdog
from steps.tune.report.mlflow_curve import LossCurve
from steps.tune.report.step_journal import StepJournal
from steps.tune.report.tuning_report import FinishedTuning, peak_bytes, save_adapter_and_report

NODE_SETTING = "FINELINE_NODE"  # name of the node that this pod runs on; unset on one machine


class TuningJob(BaseModel):
    """The inputs of a tuning, as handed to each of its processes."""

    resolved: Resolved
    hardware: Hardware
    base_folder: str
    rows_folder: str
    folder: str  # the tuning's partial folder


def run_train_process(job: TuningJob) -> None:
    """Tune, as the only process or as one of those that torchrun has started.

    Raises:
        UserError: the base model has weights that are not finite; data or settings do not suit the model or the memory; the
            training diverges; or a limit was reached.
        InterruptedStepError: SIGTERM was received.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from steps.tune.distributed.process_group import join_process_group

    resolved, rung, device = job.resolved, job.hardware.rung, job.hardware.rung.device.kind
    # Before any other import: bitsandbytes asks the driver for its GPUs, and from then on CUDA_VISIBLE_DEVICES has no effect.
    group = join_process_group(device)
    from steps.tune.adapted_model import load_adapted_model
    from steps.tune.distributed.base_placement import ReplicatedBase
    from steps.tune.distributed.sharded_base import ShardedBase
    from steps.tune.layer_compilation import fixed_pack_length
    from steps.tune.loop.held_out import HeldOutEvaluation, select_rows
    from steps.tune.loop.step_schedule import ScheduledSteps, schedule_steps
    from steps.tune.loop.stop_conditions import StopConditions
    from steps.tune.loop.token_budget import TokenBudget
    from steps.tune.loop.train import train
    from steps.tune.loop.training_setup import TrainingSetup
    from steps.tune.objective.dpo import DpoObjective
    from steps.tune.objective.objective import Objective, no_padding
    from steps.tune.objective.sft import SftObjective

    recipe, folder = resolved.recipe, Path(job.folder)
    base = ShardedBase(group) if rung.sharded else ReplicatedBase()
    if group.is_main:
        say("loading the base model")
        check_finite(Path(job.base_folder))
    pairs = recipe.tune.objective == PAIRS
    kind: type[PreparedRows[Any]] = PreparedPairs if pairs else PreparedTexts
    rows = kind.open(Path(job.rows_folder) / TRAIN)
    # Closed if the training is interrupted too: else what has not been sent yet is lost.
    with closing(LossCurve(resolved)) as curve, Watchdog(recipe.compute.idle_minutes * 60) as watchdog:
        model, quantised = load_adapted_model(
            Path(job.base_folder),
            recipe.tune,
            device,
            activations=rung.activations,
            targets=resolved.model.targets,
            base=base,
        )
        watchdog.beat()
        base.begin_forward_passes(ISOLATION_PASSES)
        packed = isolates_rows(model)
        base.end_pass()
        plan = plan_micro_batches(folder, rung, recipe.tune.batch_tokens, float(rows.lengths.mean()), packed=packed)
        packs = packed_numbers(rows, plan.micro_batch_tokens if packed else 1)
        steps = schedule_steps(len(packs), plan.micro_batches, recipe.tune.epochs, recipe.tune.seed)

        def save_budget(tokens: int) -> None:
            if group.is_main:
                save_plan(folder, plan.model_copy(update={"at_once": tokens}))

        budget = TokenBudget(
            tokens=plan.at_once,
            predicted_bytes=rung.memory_bytes,
            peak_bytes=lambda: peak_bytes(device),
            on_change=save_budget,
        )
        if group.is_main:
            _log_plan(packed, f"{len(rows)} {'pairs' if pairs else 'rows'}", len(packs), plan, rung)
        pack_tokens = packs.sums(rows.lengths)
        padded_length = fixed_pack_length(int(pack_tokens.max())) if recipe.tune.compile else no_padding

        journal = StepJournal(folder)

        def log_metrics(step: int, values: dict[str, float]) -> None:
            journal.log(step, values)
            curve.log(step, values)

        def objective() -> Objective:
            return DpoObjective(recipe.tune, padded_length, packed=packed) if pairs else SftObjective(padded_length)

        step_tokens = [int(pack_tokens[step].sum()) for step in steps]
        train_tokens = sum(step_tokens)
        validation = Path(job.rows_folder) / VALIDATION
        held_out = HeldOutEvaluation(
            select_rows(kind.open(validation), recipe.tune, train_tokens) if recipe.tune.evaluations else [],
            objective(),
            len(steps),
            recipe.tune,
            plan.at_once if packed else 1,
            folder / "checkpoints",
        )
        result = train(
            TrainingSetup(
                model=model,
                steps=ScheduledSteps(RowPacks(rows, packs), steps),
                objective=objective(),
                held_out=held_out,
                tune=recipe.tune,
                checkpoints=folder / "checkpoints",
                device=device,
                group=group,
                base=base,
                budget=budget,
                stop=StopConditions(deadline(job.hardware)),
                log_metrics=log_metrics,
                heartbeat=watchdog.beat,
            )
        )
    if not group.is_main:
        return
    save_adapter_and_report(
        folder, FinishedTuning(model, quantised, resolved, rung, plan, budget, result, sum(step_tokens[: result.steps]))
    )
    shutil.rmtree(folder / "checkpoints")
    (folder / PLAN_FILE).unlink()


def _log_plan(packed: bool, rows: str, packs: int, plan: MicroBatchPlan, rung: Rung) -> None:
    if not packed:
        say("this model lets packed rows attend to each other: training on each row separately")
    distributed = f", across {rung.processes} processes" if rung.processes > 1 else ""
    if rung.sharded:
        distributed += " that share the base model's layers"
    size = f"of at most {plan.micro_batch_tokens} tokens" if packed else "of one row"
    say(f"{rows} in {packs} micro-batches {size}, {plan.micro_batches} per optimizer step{distributed}")


def deadline(hardware: Hardware) -> float:
    """Return when to stop, in seconds since the epoch; 0: never.

    The deadline that follows from max_cost was computed from one node's price, so it applies on that node only.
    """
    same_node = os.environ.get(NODE_SETTING, hardware.node) == hardware.node
    deadlines = [hardware.until, hardware.until_on_node if same_node else 0.0]
    return min((one for one in deadlines if one), default=0.0)
