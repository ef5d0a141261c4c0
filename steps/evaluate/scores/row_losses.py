"""The loss of each row under a model: several rows to a forward pass, their sums told apart again."""

from dataclasses import dataclass
from typing import Any

from presets.memory import SCORED_TOKENS
from steps.common.model.packs import IGNORE_INDEX, TokenRow, pack, to_tensors, token_scores
from steps.common.runtime.progress import Progress


@dataclass(frozen=True)
class RowLosses:
    """Of each row, in the rows' order."""

    nats: list[float]  # cross-entropy, summed over the labelled tokens
    labelled: list[int]  # tokens
    right: list[int]  # labelled tokens that the model ranks first


def row_losses(model: Any, rows: list[TokenRow], micro: int, device: str, what: str, *, packed: bool) -> RowLosses:
    """Score rows; none sees another.

    Args:
        model: in evaluation mode.
        rows: tokens and labels.
        micro: tokens in a forward pass.
        device: "cpu" or "cuda".
        what: is scored, for the log.
        packed: several rows to a pass; False for a model in which they would see each other.
    """
    import torch

    places = {id(row): place for place, row in enumerate(rows)}
    found = RowLosses([0.0] * len(rows), [0] * len(rows), [0] * len(rows))
    packs = pack(rows, min(micro, SCORED_TOKENS) if packed else 1)
    progress = Progress(len(packs), f"micro-batches of {what}")
    with torch.inference_mode():
        for number, part in enumerate(packs, 1):
            nats, right = token_scores(model, {k: v.to(device) for k, v in to_tensors(part).items()})
            # The first token of a row has no label, see `to_tensors`.
            counts = [sum(label != IGNORE_INDEX for label in row.labels[1:]) for row in part]
            ends = zip(part, counts, torch.split(nats.double(), counts), torch.split(right, counts), strict=True)
            for row, count, of_row, right_of_row in ends:
                place = places[id(row)]
                found.nats[place], found.labelled[place] = float(of_row.sum()), count
                found.right[place] = int(right_of_row.sum())
            progress.update(number, f"loss {sum(found.nats) / max(1, sum(found.labelled)):.3f}")
    return found
