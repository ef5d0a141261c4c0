"""What a process of a tuning does: load, train, and, where it leads, save the adapter and what there is to report."""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from presets.memory import GIB
from steps.common.adapters import BASE, Base
from steps.common.errors import UserError
from steps.common.files import write_text
from steps.common.packs import isolates, pack, read_token_rows
from steps.common.progress import say
from steps.common.resolved import Hardware, Resolved, Rung
from steps.tune.limits import Limits, Watchdog
from steps.tune.record import Record
from steps.tune.schedule import schedule
from steps.tune.utilisation import utilisation

NODE_SETTING = "FINELINE_NODE"  # where this pod is; unset on one machine
CUT = "cut.json"  # how the rows are cut into micro-batches and steps, while there are checkpoints
PACKAGES = ("transformers", "peft", "torch", "accelerate", "bitsandbytes")


class Job(BaseModel):
    """What to tune, on what, with what, where."""

    resolved: Resolved
    hardware: Hardware
    base_folder: str
    rows_folder: str
    folder: str  # of the tuning, while it is built


class Cut(BaseModel):
    """How an attempt cuts the rows: later ones do the same, so that a step stays the same step on whatever computes it."""

    micro_batch_tokens: int
    micro_batches: int  # in an optimizer step
    at_once: int  # tokens that there is memory for


def work(job: Job) -> None:
    """Do it; alone, or as one of those that torchrun has started.

    Raises:
        UserError: data or settings do not suit the model or the memory, or a limit was reached.
        InterruptedStepError: SIGTERM came.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from steps.tune.model import load
    from steps.tune.objective import NextToken
    from steps.tune.room import Room
    from steps.tune.stop import Stop
    from steps.tune.team import join
    from steps.tune.train import train

    resolved, rung, device = job.resolved, job.hardware.rung, job.hardware.rung.device.kind
    recipe, folder = resolved.recipe, Path(job.folder)
    team = join(device)
    if team.leads:
        say("loading the base model")
    rows = read_token_rows(Path(job.rows_folder) / "train.jsonl")
    record = Record(resolved)
    with Watchdog(recipe.compute.idle_minutes * 60) as watchdog:
        model, quantised = load(
            Path(job.base_folder), recipe.tune, device, activations=rung.activations, targets=resolved.model.targets
        )
        watchdog.beat()
        packed = isolates(model)
        mean = sum(len(row.input_ids) for row in rows) / len(rows)
        cut = _cut(folder, rung, recipe.tune.batch_tokens, mean, packed=packed)
        packs = pack(rows, cut.micro_batch_tokens if packed else 1)
        steps = schedule(len(packs), cut.micro_batches, recipe.tune.epochs, recipe.tune.seed)
        room = Room(
            tokens=cut.at_once,
            predicted_bytes=rung.memory_bytes,
            used_bytes=lambda: peak_bytes(device),
            changed=lambda tokens: _keep(folder, cut.model_copy(update={"at_once": tokens}), writes=team.leads),
        )
        if team.leads:
            _tell(packed, len(rows), len(packs), cut, team.size)
        result = train(
            model,
            [[packs[number] for number in step] for step in steps],
            NextToken(),
            recipe.tune,
            folder / "checkpoints",
            device,
            team=team,
            room=room,
            stop=Stop(Limits(until=until(job.hardware))),
            log=record.log,
            beat=watchdog.beat,
        )
    if not team.leads:
        return
    record.send()
    losses = [entry["loss"] for entry in result.history]
    first, last = _ends(losses)
    if last != last:  # not a number
        raise UserError("tune: the loss is not a number; lower tune.learning_rate")
    _save(model, resolved, quantised, folder / "adapter")
    recompute = rung.activations != "kept"
    report: dict[str, Any] = {
        "steps": result.steps,
        "resumed_from": result.resumed_from,
        "seconds": result.seconds,
        "tokens_a_second": result.tokens / max(result.seconds, 1e-9),
        "first_loss": first,
        "last_loss": last,
        "losses": [(round(entry["step"]), entry["loss"]) for entry in result.history],
        "learning_rates": [entry["learning_rate"] for entry in result.history],
        "gradient_norms": [entry.get("grad_norm", 0.0) for entry in result.history],
        "peak_bytes": peak_bytes(device),
        "predicted_bytes": rung.memory_bytes,
        "micro_batch_tokens": cut.micro_batch_tokens,
        "micro_batches_a_step": cut.micro_batches,
        "tokens_at_once": room.tokens,
        "out_of_memory": room.shortages,
        "processes": team.size,
        "mfu": utilisation(
            resolved.model.architecture, result.tokens, result.seconds, rung.device, team.size, recompute=recompute
        ),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    shutil.rmtree(folder / "checkpoints")
    (folder / CUT).unlink()


def in_words(report: dict[str, Any]) -> str:
    """Return what the training came to as one line."""
    return (
        f"{report['steps']} steps in {report['seconds'] / 60:.1f} min, loss {report['first_loss']:.2f} to "
        f"{report['last_loss']:.2f}, {report['tokens_a_second']:.0f} tokens/s ({report['mfu']:.0%} of what multiplies), memory "
        f"{report['peak_bytes'] / GIB:.1f} GiB ({report['predicted_bytes'] / GIB:.1f} predicted)"
    )


def _tell(packed: bool, rows: int, packs: int, cut: Cut, processes: int) -> None:
    if not packed:
        say("in this model rows that are packed see each other: each is trained on alone")
    shared = f", shared by {processes} processes" if processes > 1 else ""
    most = f"of at most {cut.micro_batch_tokens} tokens" if packed else "of one row"
    say(f"{rows} rows in {packs} micro-batches {most}, {cut.micro_batches} to a step{shared}")


def until(hardware: Hardware) -> float:
    """Return when to stop, in seconds since 1970; 0: never. What max_cost allows was reckoned for one node's price."""
    same_node = os.environ.get(NODE_SETTING, hardware.node) == hardware.node
    ends = [hardware.until, hardware.until_on_node if same_node else 0.0]
    return min((end for end in ends if end), default=0.0)


def _cut(folder: Path, rung: Rung, batch_tokens: int, mean: float, *, packed: bool) -> Cut:
    """Return how the attempt that left a checkpoint has cut the rows, or how this one does.

    What holds fewer tokens than that one's computes a micro-batch in several passes.
    """
    file = folder / CUT
    if file.exists():
        kept = Cut.model_validate_json(file.read_text())
        return kept.model_copy(update={"at_once": min(kept.at_once, rung.micro_batch_tokens)})
    micro = rung.micro_batch_tokens
    tokens = micro if packed else mean
    return _keep(
        folder,
        Cut(
            micro_batch_tokens=micro,
            micro_batches=max(rung.processes, round(batch_tokens / tokens)),
            at_once=micro,
        ),
    )


def _keep(folder: Path, cut: Cut, *, writes: bool = True) -> Cut:
    if writes:
        write_text(folder / CUT, cut.model_dump_json() + "\n")
    return cut


def _ends(losses: list[float]) -> tuple[float, float]:
    """Return the mean loss of the first and the last tenth of the steps."""
    share = max(1, len(losses) // 10)
    return sum(losses[:share]) / share, sum(losses[-share:]) / share


def _save(model: Any, resolved: Resolved, quantised: list[str], folder: Path) -> None:
    uri = resolved.model.uri
    config = model.peft_config["default"]
    name, _, commit = uri.removeprefix("hf://").partition("@") if uri.startswith("hf://") else (uri, "", "")
    config.base_model_name_or_path, config.revision = name, commit or None
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    base = Base(
        uri=uri,
        digest=resolved.model.digest,
        method=resolved.recipe.tune.method,
        quantised=quantised,
        packages={name: version(name).partition("+")[0] for name in PACKAGES},
    )
    (folder / BASE).write_text(base.model_dump_json(indent=2) + "\n")


def peak_bytes(device: str) -> int:
    """Return the most memory that this process has held: of its GPU, or of the host."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
