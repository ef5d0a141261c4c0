"""The tune step: prepared rows and a base model to an adapter, through checkpoints that survive a kill."""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from presets.memory import GIB
from recipes.recipe import DPO_ALONE
from steps.common import tracking, volumes
from steps.common.adapters import BASE, Base, adapter_sha256
from steps.common.errors import UserError
from steps.common.files import building, digest_of, one_writer, write_text
from steps.common.packs import Tokens, isolates, pack, read_token_rows
from steps.common.pairs import read_token_pairs
from steps.common.progress import say
from steps.common.resolved import Hardware, Resolved, Rung
from steps.common.rows.objective import PAIRS
from steps.common.step import step
from steps.tune.checkpoints import newest_complete
from steps.tune.limits import Limits, Watchdog

FORMAT = 1  # of what is learnt from the same settings; raised when the training itself changes
LOG_SECONDS = 5.0
NODE_SETTING = "FINELINE_NODE"  # where this pod is; unset on one machine
MICRO_BATCH = "micro_batch_tokens"  # the file that holds it while there are checkpoints
PACKAGES = ("transformers", "peft", "torch", "accelerate", "bitsandbytes")


class TuneInput(Input):
    """What to tune, on what, with what."""

    resolved: Resolved
    base_folder: Annotated[str, Parameter(description="Folder of the base model")]
    rows_folder: Annotated[str, Parameter(description="Folder of the prepared rows")]
    rows_digest: Annotated[str, Parameter(description="Digest of the prepared rows")]
    hardware: Annotated[Hardware, Parameter(description="What computes")]
    placement: Annotated[str, Parameter(description="Patch of the pod's spec; Argo reads it, not the step")] = "{}"


class TuneOutput(Output):
    """The adapter."""

    adapter_folder: str
    adapter_sha256: str
    summary: str


@step
def tune(input: TuneInput) -> TuneOutput:  # noqa: A002 - the name is Argo's
    """Tune; at once when the same base, rows and settings were tuned before.

    Raises:
        UserError: the data or settings do not suit the model.
        InterruptedStepError: SIGTERM came; run again, it goes on from the checkpoint.
    """
    resolved = input.resolved
    unused = {"objective", *DPO_ALONE} if resolved.recipe.tune.objective == "sft" else set()
    settings = resolved.recipe.tune.model_dump(exclude={"checkpoint_every", *unused})
    key = digest_of([FORMAT, resolved.model.digest, input.rows_digest, settings])
    folder = volumes.tuning(key)
    with one_writer(folder, waiting=lambda: say("progress: waiting for the process that tunes the same")):
        if folder.exists():
            say("the same base, rows and settings were tuned before")
        else:
            with building(folder, keep=True) as partial:
                _tune(input, partial)
    adapter = folder / "adapter"
    report = json.loads((folder / "report.json").read_text())
    return TuneOutput(adapter_folder=str(adapter), adapter_sha256=adapter_sha256(adapter), summary=in_words(report))


def in_words(report: dict[str, Any]) -> str:
    """Return what the training came to as one line."""
    preferred = ""
    if "rewards" in report:
        preferred = f"reward margin {report['reward_margin']:.2f}, {report['reward_accuracy']:.0%} of pairs preferred, "
    return (
        f"{report['steps']} steps in {report['seconds'] / 60:.1f} min, loss {report['first_loss']:.2f} to "
        f"{report['last_loss']:.2f}, {preferred}{report['tokens_a_second']:.0f} tokens/s, "
        f"memory {report['peak_bytes'] / GIB:.1f} GiB ({report['predicted_bytes'] / GIB:.1f} predicted)"
    )


def _tune(input: TuneInput, folder: Path) -> None:  # noqa: A002
    # Two GPUs in one process would be DataParallel, which no 4-bit base survives.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    say("loading the base model")
    from steps.tune.model import load
    from steps.tune.objective import NextToken, Objective
    from steps.tune.preference import Preference
    from steps.tune.train import train

    resolved, rung, device = input.resolved, input.hardware.rung, input.hardware.rung.device.kind
    recipe = resolved.recipe
    micro = _micro_batch(rung, folder)
    pairs = recipe.tune.objective == PAIRS
    read: Callable[[Path], Sequence[Tokens]] = read_token_pairs if pairs else read_token_rows
    rows = read(Path(input.rows_folder) / "train.jsonl")
    record = _Record(resolved)
    with Watchdog(recipe.compute.idle_minutes * 60) as watchdog:
        model, quantised = load(
            Path(input.base_folder), recipe.tune, device, activations=rung.activations, targets=resolved.model.targets
        )
        watchdog.beat()
        packed = isolates(model)
        if not packed:
            say("in this model rows that are packed see each other: each is trained on alone")
        packs = pack(rows, micro if packed else 1)
        tokens = micro if packed else sum(len(row.input_ids) for row in rows) / len(rows)
        accumulate = max(1, round(recipe.tune.batch_tokens / tokens))
        kind = "pairs" if pairs else "rows"
        say(f"{len(rows)} {kind} in {len(packs)} micro-batches of {tokens:.0f} tokens, {accumulate} to a step")
        limits = Limits(until=_until(input.hardware))
        where = folder / "checkpoints"
        objective: Objective = Preference(recipe.tune, packed=packed) if pairs else NextToken()
        result = train(
            model, packs, objective, recipe.tune, accumulate, where, device, record.log, limits, watchdog.beat
        )
    record.send()
    first, last = _ends([loss for _, loss in result.losses])
    if last != last:  # not a number
        raise UserError("tune: the loss is not a number; lower tune.learning_rate")
    _save(model, resolved, quantised, folder / "adapter")
    report = {
        "steps": result.steps,
        "resumed_from": result.resumed_from,
        "seconds": result.seconds,
        "tokens_a_second": result.tokens / max(result.seconds, 1e-9),
        "first_loss": first,
        "last_loss": last,
        "losses": result.losses,
        **_rewards(result.rewards),
        "peak_bytes": _peak_bytes(device),
        "predicted_bytes": rung.memory_bytes,
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    say(in_words(report))
    _drop_checkpoints(folder)


def _until(hardware: Hardware) -> float:
    """Return when to stop, in seconds since 1970; 0: never. What max_cost allows was reckoned for one node's price."""
    same_node = os.environ.get(NODE_SETTING, hardware.node) == hardware.node
    ends = [hardware.until, hardware.until_on_node if same_node else 0.0]
    return min((end for end in ends if end), default=0.0)


def _micro_batch(rung: Rung, folder: Path) -> int:
    """Return the micro-batch of the attempt that left a checkpoint, in tokens, so that it goes on with the same packs.

    A GPU that does not hold as many begins anew, with what it holds.
    """
    file, checkpoints = folder / MICRO_BATCH, folder / "checkpoints"
    if checkpoint := newest_complete(checkpoints):
        kept = int(file.read_text()) if file.exists() else 0
        if 0 < kept <= rung.micro_batch_tokens:
            return kept
        say(
            f"{checkpoint.name} was trained on micro-batches of {kept} tokens and {rung.name} holds "
            f"{rung.micro_batch_tokens}: the training begins anew"
        )
        shutil.rmtree(checkpoints)
    write_text(file, f"{rung.micro_batch_tokens}\n")
    return rung.micro_batch_tokens


def _ends(losses: list[float]) -> tuple[float, float]:
    """Return the mean loss of the first and the last tenth of the steps."""
    share = max(1, len(losses) // 10)
    return sum(losses[:share]) / share, sum(losses[-share:]) / share


def _rewards(rewards: list[tuple[int, float, float]]) -> dict[str, Any]:
    """Return what a preference adds to the report: all steps' rewards, and the mean of the last tenth of them."""
    if not rewards:
        return {}
    return {
        "rewards": rewards,
        "reward_margin": _ends([margin for _, margin, _ in rewards])[1],
        "reward_accuracy": _ends([accuracy for _, _, accuracy in rewards])[1],
    }


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


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _drop_checkpoints(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoints")
    (folder / MICRO_BATCH).unlink()


class _Record:
    """Sends the losses to MLflow every few seconds, together: a call a step would slow a fast training down."""

    def __init__(self, resolved: Resolved) -> None:
        self._run = resolved.tracking.run_id
        self._client = tracking.client(resolved.tracking.uri) if self._run else None
        self._waiting: list[tuple[int, dict[str, float]]] = []
        self._sent = time.monotonic()

    def log(self, step: int, values: dict[str, float]) -> None:
        """Keep a step's values, and send what is kept when it is time."""
        self._waiting.append((step, values))
        if time.monotonic() - self._sent > LOG_SECONDS:
            self.send()

    def send(self) -> None:
        """Send what is kept."""
        if self._client and self._waiting:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            metrics = [
                Metric(f"tune/{name}", value, now, step) for step, kept in self._waiting for name, value in kept.items()
            ]
            self._client.log_batch(self._run, metrics=metrics)
        self._waiting.clear()
        self._sent = time.monotonic()
