"""What a process of a tuning does: load, train, and, where it leads, save the adapter and what there is to report."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel

from steps.common.handover.resolved import Hardware, Resolved, Rung
from steps.common.model.packs import ISOLATION_PASSES, Packable, isolates_rows, pack, read_token_rows
from steps.common.model.pair_packs import read_token_pairs
from steps.common.rows.row_kinds import PAIRS
from steps.common.runtime.progress import say
from steps.tune.loop.limits import Limits, Watchdog
from steps.tune.loop.micro_batches import CUT, Cut, cut_of, keep
from steps.tune.loop.step_packs import schedule
from steps.tune.report.mlflow_curve import LossCurve
from steps.tune.report.result import leave, peak_bytes

NODE_SETTING = "FINELINE_NODE"  # where this pod is; unset on one machine


class TuningJob(BaseModel):
    """What to tune, on what, with what, where."""

    resolved: Resolved
    hardware: Hardware
    base_folder: str
    rows_folder: str
    folder: str  # of the tuning, while it is built


def work(job: TuningJob) -> None:
    """Do it; alone, or as one of those that torchrun has started.

    Raises:
        UserError: data or settings do not suit the model or the memory, or a limit was reached.
        InterruptedStepError: SIGTERM came.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from steps.tune.together.team import join

    resolved, rung, device = job.resolved, job.hardware.rung, job.hardware.rung.device.kind
    # Before anything else is loaded: bitsandbytes asks the driver for its GPUs, which from then on are all that there are.
    team = join(device)
    from steps.tune.adapted_model import load_adapted_model
    from steps.tune.compiled import fixed_length
    from steps.tune.loop.halving import Room
    from steps.tune.loop.held_out import HeldOut, chosen
    from steps.tune.loop.stop import Stop
    from steps.tune.loop.train import train
    from steps.tune.objective.dpo import DirectPreference
    from steps.tune.objective.loss import NextToken, Objective, natural_length
    from steps.tune.together.base_weights import Whole
    from steps.tune.together.sharded import Sharded

    recipe, folder = resolved.recipe, Path(job.folder)
    base = Sharded(team) if rung.sharded else Whole()
    if team.leads:
        say("loading the base model")
    pairs = recipe.tune.objective == PAIRS
    read: Callable[[Path], Sequence[Packable]] = read_token_pairs if pairs else read_token_rows
    rows = read(Path(job.rows_folder) / "train.jsonl")
    record = LossCurve(resolved)
    with Watchdog(recipe.compute.idle_minutes * 60) as watchdog:
        model, quantised = load_adapted_model(
            Path(job.base_folder),
            recipe.tune,
            device,
            activations=rung.activations,
            targets=resolved.model.targets,
            base=base,
        )
        watchdog.beat()
        base.begin_reading(ISOLATION_PASSES)
        packed = isolates_rows(model)
        base.end()
        mean = sum(len(row.input_ids) for row in rows) / len(rows)
        cut = cut_of(folder, rung, recipe.tune.batch_tokens, mean, packed=packed)
        packs = pack(rows, cut.micro_batch_tokens if packed else 1)
        steps = schedule(len(packs), cut.micro_batches, recipe.tune.epochs, recipe.tune.seed)
        room = Room(
            tokens=cut.at_once,
            predicted_bytes=rung.memory_bytes,
            used_bytes=lambda: peak_bytes(device),
            changed=lambda tokens: keep(folder, cut.model_copy(update={"at_once": tokens}), writes=team.leads),
        )
        if team.leads:
            _tell(packed, f"{len(rows)} {'pairs' if pairs else 'rows'}", len(packs), cut, rung)
        length_of = fixed_length(packs) if recipe.tune.compile else natural_length

        def objective() -> Objective:
            return DirectPreference(recipe.tune, length_of, packed=packed) if pairs else NextToken(length_of)

        learnt = sum(len(row.input_ids) for step in steps for number in step for row in packs[number])
        others = read(Path(job.rows_folder) / "validation.jsonl") if recipe.tune.evaluations else []
        held_out = HeldOut(
            chosen(others, recipe.tune, learnt),
            objective(),
            len(steps),
            recipe.tune,
            cut.at_once if packed else 1,
            folder / "checkpoints",
        )
        result = train(
            model,
            [[packs[number] for number in step] for step in steps],
            objective(),
            held_out,
            recipe.tune,
            folder / "checkpoints",
            device,
            team=team,
            base=base,
            room=room,
            stop=Stop(Limits(until=until(job.hardware))),
            log=record.log,
            beat=watchdog.beat,
        )
    if not team.leads:
        return
    record.send()
    leave(folder, model, quantised, result, resolved, rung, cut, room)
    shutil.rmtree(folder / "checkpoints")
    (folder / CUT).unlink()


def _tell(packed: bool, rows: str, packs: int, cut: Cut, rung: Rung) -> None:
    if not packed:
        say("in this model rows that are packed see each other: each is trained on alone")
    shared = f", shared by {rung.processes} processes" if rung.processes > 1 else ""
    if rung.sharded:
        shared += ", each with a part of the base's layers"
    most = f"of at most {cut.micro_batch_tokens} tokens" if packed else "of one row"
    say(f"{rows} in {packs} micro-batches {most}, {cut.micro_batches} to a step{shared}")


def until(hardware: Hardware) -> float:
    """Return when to stop, in seconds since 1970; 0: never. What max_cost allows was reckoned for one node's price."""
    same_node = os.environ.get(NODE_SETTING, hardware.node) == hardware.node
    ends = [hardware.until, hardware.until_on_node if same_node else 0.0]
    return min((end for end in ends if end), default=0.0)
