"""How the rows are cut into micro-batches and steps: the same way at every attempt, so that a step stays the same step."""

from pathlib import Path

from pydantic import BaseModel

from steps.common.handover.resolved import Rung
from steps.common.storage.files import write_text

CUT = "cut.json"  # in the tuning's folder, while there are checkpoints


class Cut(BaseModel):
    """How an attempt cuts the rows: later ones do the same, so that a step stays the same step on whatever computes it."""

    micro_batch_tokens: int
    micro_batches: int  # in an optimizer step
    at_once: int  # tokens that there is memory for


def cut_of(folder: Path, rung: Rung, batch_tokens: int, mean: float, *, packed: bool) -> Cut:
    """Return how the attempt that left a checkpoint has cut the rows, or how this one does.

    What holds fewer tokens than that one's computes a micro-batch in several passes.
    """
    file = folder / CUT
    if file.exists():
        kept = Cut.model_validate_json(file.read_text())
        return kept.model_copy(update={"at_once": min(kept.at_once, rung.micro_batch_tokens)})
    micro = rung.micro_batch_tokens
    tokens = micro if packed else mean
    return keep(
        folder,
        Cut(
            micro_batch_tokens=micro,
            micro_batches=max(rung.processes, round(batch_tokens / tokens)),
            at_once=micro,
        ),
    )


def keep(folder: Path, cut: Cut, *, writes: bool = True) -> Cut:
    """Write it down, where this process is the one that does, and return it."""
    if writes:
        write_text(folder / CUT, cut.model_dump_json() + "\n")
    return cut
