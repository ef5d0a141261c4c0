"""Computes a model's loss on each row, with several rows per forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from presets.memory import SCORED_TOKENS
from steps.common.model.packs import IGNORE_INDEX, TokenRow, packed_numbers, to_tensors, token_scores
from steps.common.runtime.progress import Progress


@dataclass(frozen=True)
class RowLosses:
    """One value per row, in the order of the rows."""

    nats: list[float]  # cross-entropy, summed over the labelled tokens
    labelled: list[int]  # tokens
    right: list[int]  # labelled tokens that the model ranks first


def row_losses(
    model: Any, rows: Sequence[TokenRow], micro_batch_tokens: int, device: str, what: str, *, packed: bool
) -> RowLosses:
    """Score each row independently of the others.

    Args:
        model: in evaluation mode.
        rows: tokens and labels.
        micro_batch_tokens: tokens per forward pass.
        device: "cpu" or "cuda".
        what: what is scored, for the log.
        packed: several rows per pass; False for a model whose attention would cross from row to row.
    """
    import torch

    losses = RowLosses([0.0] * len(rows), [0] * len(rows), [0] * len(rows))
    packs = packed_numbers(rows, min(micro_batch_tokens, SCORED_TOKENS) if packed else 1)
    progress = Progress(len(packs), f"micro-batches of {what}")
    with torch.inference_mode():
        for number, places in enumerate(packs, 1):
            packed_rows = [rows[int(place)] for place in places]
            nats, right = token_scores(model, {k: v.to(device) for k, v in to_tensors(packed_rows).items()})
            # The first token of a row has no label, see `to_tensors`.
            counts = [sum(label != IGNORE_INDEX for label in row.labels[1:]) for row in packed_rows]
            by_row = zip(
                places.tolist(), counts, torch.split(nats.double(), counts), torch.split(right, counts), strict=True
            )
            for place, count, nats_of_row, right_of_row in by_row:
                losses.nats[place], losses.labelled[place] = float(nats_of_row.sum()), count
                losses.right[place] = int(right_of_row.sum())
            progress.update(number, f"loss {sum(losses.nats) / max(1, sum(losses.labelled)):.3f}")
    return losses
