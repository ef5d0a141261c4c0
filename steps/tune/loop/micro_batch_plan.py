"""How rows are divided into micro-batches and optimizer steps.

Every attempt at a training uses the first attempt's plan, so that step N is the same step whichever GPU computes it.
"""

from pathlib import Path

from steps.common.handover.resolved import Rung
from steps.common.storage.files import write_text
from steps.common.storage.record import Record

PLAN_FILE = "cut.json"  # in the tuning's folder, next to its checkpoints


class MicroBatchPlan(Record):
    """The size of a micro-batch, and the number of micro-batches accumulated in an optimizer step."""

    micro_batch_tokens: int
    micro_batches: int  # per optimizer step
    at_once: int  # tokens per forward pass; below `micro_batch_tokens` if the memory holds no more


def plan_micro_batches(
    folder: Path, rung: Rung, batch_tokens: int, mean_row_tokens: float, *, packed: bool
) -> MicroBatchPlan:
    """Return the plan of the attempt that this one resumes, or a new one, which is saved.

    Hardware that holds fewer tokens than a resumed plan's micro-batch computes one in several passes.

    Args:
        folder: of the tuning.
        rung: the hardware.
        batch_tokens: tokens per optimizer step, as the recipe sets them.
        mean_row_tokens: mean length of the rows.
        packed: whether a micro-batch holds several rows.
    """
    file = folder / PLAN_FILE
    if file.exists():
        saved = MicroBatchPlan.read(file.read_text(), file)
        return saved.model_copy(update={"at_once": min(saved.at_once, rung.micro_batch_tokens)})
    tokens = rung.micro_batch_tokens if packed else mean_row_tokens
    plan = MicroBatchPlan(
        micro_batch_tokens=rung.micro_batch_tokens,
        micro_batches=max(rung.processes, round(batch_tokens / tokens)),
        at_once=rung.micro_batch_tokens,
    )
    save_plan(folder, plan)
    return plan


def save_plan(folder: Path, plan: MicroBatchPlan) -> None:
    """Save a plan for the attempts to come."""
    write_text(folder / PLAN_FILE, plan.model_dump_json() + "\n")
