"""What a tuning leaves: the adapter's folder, and the report of how it went."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from presets.memory import GIB
from steps.common.adapter.adapter_files import BASE_FILE, AdapterBase
from steps.common.handover.resolved import Resolved, Rung
from steps.common.runtime.errors import UserError
from steps.tune.loop.micro_batches import Cut
from steps.tune.report.utilisation import utilisation

if TYPE_CHECKING:
    from steps.tune.loop.halving import Room
    from steps.tune.loop.train import Trained

PACKAGES = ("transformers", "peft", "torch", "accelerate", "bitsandbytes")


def leave(
    folder: Path,
    model: Any,
    quantised: list[str],
    trained: "Trained",
    resolved: Resolved,
    rung: Rung,
    cut: Cut,
    room: "Room",
) -> None:
    """Write `adapter/` and `report.json` into the tuning's folder.

    Args:
        folder: of the tuning.
        model: the PEFT model.
        quantised: names of the base's layers that are in 4 bits.
        trained: what the training came to.
        resolved: what was wanted.
        rung: what computed.
        cut: how the rows were cut.
        room: how many tokens at once the memory held.

    Raises:
        UserError: the loss is not a number.
    """
    first, last = _ends([entry["loss"] for entry in trained.history])
    if last != last:  # not a number
        raise UserError("tune: the loss is not a number; lower tune.learning_rate")
    _save(model, resolved, quantised, folder / "adapter")
    device, recompute = rung.device, rung.activations != "kept"
    report: dict[str, Any] = {
        "steps": trained.steps,
        "resumed_from": trained.resumed_from,
        "seconds": trained.seconds,
        "tokens_a_second": trained.tokens / max(trained.seconds, 1e-9),
        "first_loss": first,
        "last_loss": last,
        "held_out": trained.held_out,
        "kept_step": trained.kept_step,
        "losses": [(round(entry["step"]), entry["loss"]) for entry in trained.history],
        "learning_rates": [entry["learning_rate"] for entry in trained.history],
        "gradient_norms": [entry.get("grad_norm", 0.0) for entry in trained.history],
        **_rewards(trained.history),
        "peak_bytes": peak_bytes(device.kind),
        "predicted_bytes": rung.memory_bytes,
        "micro_batch_tokens": cut.micro_batch_tokens,
        "micro_batches_a_step": cut.micro_batches,
        "tokens_at_once": room.tokens,
        "out_of_memory": room.shortages,
        "processes": rung.processes,
        "mfu": utilisation(
            resolved.model.architecture, trained.tokens, trained.seconds, device, rung.processes, recompute=recompute
        ),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")


def in_words(report: dict[str, Any]) -> str:
    """Return what the training came to as one line."""
    preferred = ""
    if "rewards" in report:
        preferred = f"reward margin {report['reward_margin']:.2f}, {report['reward_accuracy']:.0%} of pairs preferred, "
    return (
        f"{report['steps']} steps in {report['seconds'] / 60:.1f} min, loss {report['first_loss']:.2f} to "
        f"{report['last_loss']:.2f}, {preferred}{report['tokens_a_second']:.0f} tokens/s ({report['mfu']:.0%} MFU), "
        f"memory {report['peak_bytes'] / GIB:.1f} GiB ({report['predicted_bytes'] / GIB:.1f} predicted)"
    )


def _ends(losses: list[float]) -> tuple[float, float]:
    """Return the mean loss of the first and the last tenth of the steps."""
    share = max(1, len(losses) // 10)
    return sum(losses[:share]) / share, sum(losses[-share:]) / share


def _rewards(history: list[dict[str, float]]) -> dict[str, Any]:
    """Return what a preference adds to the report: all steps' rewards, and the mean of the last tenth of them."""
    rewards = [
        (round(one["step"]), one["reward_margin"], one["reward_accuracy"]) for one in history if "reward_margin" in one
    ]
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
    base = AdapterBase(
        uri=uri,
        digest=resolved.model.digest,
        method=resolved.recipe.tune.method,
        quantised=quantised,
        packages={name: version(name).partition("+")[0] for name in PACKAGES},
    )
    (folder / BASE_FILE).write_text(base.model_dump_json(indent=2) + "\n")


def peak_bytes(device: str) -> int:
    """Return the most memory that this process has held: of its GPU, or of the host."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
