"""Saves the adapter's folder and the report of the tuning."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from presets.memory import GIB
from steps.common.adapter.adapter_files import BASE_FILE, AdapterBase
from steps.common.handover.report import STEP_REPORT, TuningRecord
from steps.common.handover.resolved import Resolved, Rung
from steps.common.runtime.errors import UserError
from steps.tune.loop.micro_batch_plan import MicroBatchPlan
from steps.tune.report.utilisation import utilisation

if TYPE_CHECKING:
    from steps.tune.loop.token_budget import TokenBudget
    from steps.tune.loop.train import TrainingResult

PACKAGES = ("transformers", "peft", "torch", "accelerate", "bitsandbytes")


@dataclass(frozen=True)
class FinishedTuning:
    """A trained model, and how it was trained."""

    model: Any  # the PEFT model
    quantised: list[str]  # names of the base model's 4-bit layers
    resolved: Resolved
    rung: Rung
    plan: MicroBatchPlan
    budget: "TokenBudget"
    result: "TrainingResult"
    trained_tokens: int  # in all steps, those before a resumption too


def save_adapter_and_report(folder: Path, tuning: FinishedTuning) -> None:
    """Write `adapter/` and the report into the tuning's folder.

    Raises:
        UserError: a weight of the adapter is not finite.
    """
    rung, plan, result = tuning.rung, tuning.plan, tuning.result
    first, last = _first_and_last([entry["loss"] for entry in result.history])
    _check_adapter(tuning)
    _save_adapter(tuning, folder / "adapter")
    report = TuningRecord(
        steps=result.steps,
        resumed_from=result.resumed_from,
        trained_tokens=tuning.trained_tokens,
        seconds=result.seconds,
        tokens_a_second=result.tokens / max(result.seconds, 1e-9),
        first_loss=first,
        last_loss=last,
        held_out=result.held_out,
        kept_step=result.kept_step,
        losses=[(round(entry["step"]), entry["loss"]) for entry in result.history],
        learning_rates=[entry["learning_rate"] for entry in result.history],
        gradient_norms=[entry.get("grad_norm", 0.0) for entry in result.history],
        **_rewards(result.history),
        peak_bytes=peak_bytes(rung.device.kind),
        predicted_bytes=rung.memory_bytes,
        micro_batch_tokens=plan.micro_batch_tokens,
        micro_batches_a_step=plan.micro_batches,
        tokens_at_once=tuning.budget.tokens,
        out_of_memory=tuning.budget.shortages,
        processes=rung.processes,
        mfu=utilisation(
            tuning.resolved.model.architecture,
            result.tokens,
            result.seconds,
            rung.device,
            rung.processes,
            recompute=rung.activations != "kept",
        ),
    )
    (folder / STEP_REPORT).write_text(report.model_dump_json(indent=2) + "\n")


def summary_line(report: TuningRecord) -> str:
    """Return a report as one line."""
    preferred = ""
    if report.reward_margin is not None and report.reward_accuracy is not None:
        preferred = f"reward margin {report.reward_margin:.2f}, {report.reward_accuracy:.0%} of pairs preferred, "
    used = "" if report.mfu is None else f" ({report.mfu:.0%} MFU)"
    return (
        f"{report.steps} steps in {report.seconds / 60:.1f} min, loss {report.first_loss:.2f} to {report.last_loss:.2f}, "
        f"{preferred}{report.tokens_a_second:.0f} tokens/s{used}, memory {report.peak_bytes / GIB:.1f} GiB "
        f"({report.predicted_bytes / GIB:.1f} predicted)"
    )


def _first_and_last(values: list[float]) -> tuple[float, float]:
    """Return the means over the first and the last tenth of the steps."""
    count = max(1, len(values) // 10)
    return sum(values[:count]) / count, sum(values[-count:]) / count


def _rewards(history: list[dict[str, float]]) -> dict[str, Any]:
    """Return what DPO adds to the report: the rewards of all steps, and their means over the last tenth."""
    rewards = [
        (round(one["step"]), one["reward_margin"], one["reward_accuracy"]) for one in history if "reward_margin" in one
    ]
    if not rewards:
        return {}
    return {
        "rewards": rewards,
        "reward_margin": _first_and_last([margin for _, margin, _ in rewards])[1],
        "reward_accuracy": _first_and_last([accuracy for _, _, accuracy in rewards])[1],
    }


def _check_adapter(tuning: FinishedTuning) -> None:
    """Refuse an adapter that the last step has made useless: no loss was computed after it.

    Raises:
        UserError: with the layer.
    """
    for name, weight in tuning.model.named_parameters():
        if weight.requires_grad and not weight.isfinite().all():
            rate = tuning.resolved.recipe.tune.learning_rate
            raise UserError(
                f"tune: the training diverged: after step {tuning.result.kept_step}, {name} contains NaN or infinite values; "
                f"lower tune.learning_rate, which is {rate:g}"
            )


def _save_adapter(tuning: FinishedTuning, folder: Path) -> None:
    base_model = tuning.resolved.model
    uri = base_model.uri
    config = tuning.model.peft_config["default"]
    name, _, commit = uri.removeprefix("hf://").partition("@") if uri.startswith("hf://") else (uri, "", "")
    config.base_model_name_or_path, config.revision = name, commit or None
    tuning.model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    base = AdapterBase(
        uri=uri,
        digest=base_model.digest,
        method=tuning.resolved.recipe.tune.method,
        quantised=tuning.quantised,
        packages={name: version(name).partition("+")[0] for name in PACKAGES},
    )
    (folder / BASE_FILE).write_text(base.model_dump_json(indent=2) + "\n")


def peak_bytes(device: str) -> int:
    """Return this process's peak memory in bytes: of its GPU ("cuda"), or of the host ("cpu")."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
