"""Pairs of a chosen and a rejected answer in micro-batches: both sides of a pair stand next to each other in one sequence.

Each side is a row of its own there, with the prompt in it: neither sees the other (`steps.common.model.packs`).
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.common.model.packs import IGNORE_INDEX, TokenRow, token_losses

if TYPE_CHECKING:
    import torch


READ = ("input_ids", "position_ids", "labels")


@dataclass(frozen=True)
class TokenPair:
    """A prepared pair."""

    number: int  # its place in its file, from 0
    chosen: TokenRow
    rejected: TokenRow

    @cached_property
    def input_ids(self) -> list[int]:
        """The tokens of both sides: what the pair takes of a pack."""
        return self.chosen.input_ids + self.rejected.input_ids

    @property
    def sides(self) -> tuple[TokenRow, TokenRow]:
        """The chosen side and the rejected one."""
        return self.chosen, self.rejected


def read_token_pairs(path: Path) -> list[TokenPair]:
    """Read a file of pairs that `prepare` wrote."""
    pairs = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            row = json.loads(line)
            asked, rejected = [tuple(message) for message in row["messages"]], row["rejected"]
            instead = [*asked[:-1], ("assistant", rejected["answer"])]
            pairs.append(
                TokenPair(
                    number,
                    TokenRow(row["input_ids"], row["labels"], asked),
                    TokenRow(rejected["input_ids"], rejected["labels"], instead),
                )
            )
    return pairs


def by_row(pack: dict[str, "torch.Tensor"], rows: int, values: "torch.Tensor") -> "torch.Tensor":
    """Return the sums, of shape (rows), of what was found for each of a pack's N labelled tokens.

    Args:
        pack: what `to_tensors` made of the rows.
        rows: how many they are; what fills the pack up is none of them.
        values: of shape (N).
    """
    import torch

    of_row = _row_of_each(pack)[pack["labels"][0] != IGNORE_INDEX]
    return torch.zeros(rows, device=values.device).index_add(0, of_row, values)


def log_probabilities(
    model: Any, pack: dict[str, "torch.Tensor"], rows: int, *, packed: bool = True
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return the log-probability of each row of a pack, summed over its labelled tokens, and the count of these.

    Args:
        model: a causal language model.
        pack: what `to_tensors` made of the rows.
        rows: how many they are.
        packed: compute on all rows at once. False: on one after the other, for a model in which rows that are packed see
            each other.

    Returns:
        Two tensors of shape (rows), fp32: in nats, and in tokens.
    """
    import torch

    if packed:
        losses = token_losses(model, pack)
    else:
        of_row = _row_of_each(pack)
        alone = [{name: pack[name][:, of_row == row] for name in READ} for row in range(rows)]
        losses = torch.cat([token_losses(model, one) for one in alone])
    return by_row(pack, rows, -losses), by_row(pack, rows, torch.ones_like(losses))


def _row_of_each(pack: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """Return to which row of the pack each token belongs, from 0."""
    return (pack["position_ids"][0] == 0).cumsum(0) - 1
