"""Preference pairs in packs: a pair's chosen and rejected side follow each other in one sequence.

Each side is a separate row that includes the prompt, so neither attends to the other (`steps.common.model.packs`).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from steps.common.model.packs import IGNORE_INDEX, TokenRow, token_losses

if TYPE_CHECKING:
    import torch

MODEL_INPUTS = ("input_ids", "position_ids", "labels")


@dataclass(frozen=True)
class TokenPair:
    """A prepared preference pair."""

    number: int  # index in its file, from 0
    chosen: TokenRow
    rejected: TokenRow

    @cached_property
    def input_ids(self) -> list[int]:
        """The tokens of both sides, which the pair occupies in a pack."""
        return self.chosen.input_ids + self.rejected.input_ids

    @property
    def sides(self) -> tuple[TokenRow, TokenRow]:
        """The chosen side and the rejected one."""
        return self.chosen, self.rejected


def sum_by_row(pack: dict[str, "torch.Tensor"], rows: int, values: "torch.Tensor") -> "torch.Tensor":
    """Return, for each row of a pack, the sum of a value of each of its labelled tokens; shape (rows).

    Args:
        pack: from `to_tensors`.
        rows: number of rows, without the padding.
        values: of the pack's N labelled tokens, shape (N).
    """
    import torch

    row_of_value = _row_of_each_token(pack)[pack["labels"][0] != IGNORE_INDEX]
    return torch.zeros(rows, device=values.device).index_add(0, row_of_value, values)


def log_probabilities(
    model: Any, pack: dict[str, "torch.Tensor"], rows: int, *, packed: bool = True
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return each row's log-probability, summed over its labelled tokens, and the number of those tokens.

    Args:
        model: a causal language model.
        pack: from `to_tensors`.
        rows: number of rows, without the padding.
        packed: compute all rows at once. False: one after the other, for a model whose packed rows attend to each other.

    Returns:
        Two tensors of shape (rows), in fp32: nats, and token counts.
    """
    import torch

    if packed:
        losses = token_losses(model, pack)
    else:
        row_of_token = _row_of_each_token(pack)
        separate = [{name: pack[name][:, row_of_token == row] for name in MODEL_INPUTS} for row in range(rows)]
        losses = torch.cat([token_losses(model, one) for one in separate])
    return sum_by_row(pack, rows, -losses), sum_by_row(pack, rows, torch.ones_like(losses))


def _row_of_each_token(pack: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """Return the index, from 0, of the row that each token of the pack belongs to; shape (T)."""
    return (pack["position_ids"][0] == 0).cumsum(0) - 1
