"""Micro-batches: whole rows side by side in one sequence, and the loss over what is to be learnt.

The positions start anew with each row. From them transformers builds a mask through which no row sees another
(`transformers.masking_utils.find_packed_sequence_indices`), or `attention` computes row by row. The head is asked only for
the positions that are scored: over a vocabulary of 49,152 it is otherwise a fifth of the work and the most of the memory.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import torch

IGNORE_INDEX = -100  # the label of a token that is read and not learnt
# Packs of a few lengths, not of any. On a CPU each new length costs oneDNN a set of kernels, some 8 MB a training step
# with SmolLM2-135M until every length has been seen; on a GPU matrix products like multiples of 16.
LENGTH_MULTIPLE = 16


@dataclass(frozen=True)
class TokenRow:
    """A prepared row: tokens and labels of the same length, and what it says."""

    input_ids: list[int]
    labels: list[int]
    messages: list[tuple[str, str]]


class Packable(Protocol):
    """What takes room in a pack, and is never split: a row, or a pair of them."""

    @property
    def input_ids(self) -> list[int]:
        """Its tokens."""


Packed = TypeVar("Packed", bound=Packable)


def read_token_rows(path: Path) -> list[TokenRow]:
    """Read a file that `prepare` wrote."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [TokenRow(r["input_ids"], r["labels"], [tuple(m) for m in r["messages"]]) for r in rows]


def pack(rows: Iterable[Packed], tokens: int) -> list[list[Packed]]:
    """Put rows into packs of at most `tokens`, the longest row first into the fullest pack that has room.

    A row longer than `tokens` gets a pack of its own. The same rows give the same packs.
    """
    packs: list[list[Packed]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda row: (-len(row.input_ids), row.input_ids)):
        length = len(row.input_ids)
        fitting = [number for number, left in enumerate(room) if left >= length]
        if fitting:
            best = min(fitting, key=lambda number: room[number])
            packs[best].append(row)
            room[best] -= length
        else:
            packs.append([row])
            room.append(tokens - length)
    return packs


def to_tensors(rows: list[TokenRow], length: int = 0) -> dict[str, "torch.Tensor"]:
    """Return a pack as tensors of shape (1, T), T a multiple of 16: input_ids, position_ids, labels.

    The first token of each row has no label: nothing before it is its own. What fills the pack up stands behind the
    rows as one more, of which nothing is learnt.

    Args:
        rows: of the pack.
        length: T, where it is to be more than the rows take.
    """
    import torch

    tokens = sum(len(row.input_ids) for row in rows)
    filling = -tokens % LENGTH_MULTIPLE if tokens > length else length - tokens
    filled = [*rows, TokenRow([0] * filling, [IGNORE_INDEX] * filling, [])] if filling else rows
    ids = [token for row in filled for token in row.input_ids]
    positions = [position for row in filled for position in range(len(row.input_ids))]
    labels = [label for row in filled for label in (IGNORE_INDEX, *row.labels[1:])]
    tensors = {"input_ids": ids, "position_ids": positions, "labels": labels}
    return {name: torch.tensor([values], dtype=torch.long) for name, values in tensors.items()}


ISOLATION_PASSES = 2  # forward passes that `isolates` makes


def isolates_rows(model: Any) -> bool:
    """Tell whether rows that are packed side by side do not see each other in this model.

    Most models of transformers build their mask from the positions; Falcon, for one, builds its own and lets each row see
    those before it, without a word. The sign: what is said after a row changes with the row before it.
    """
    import torch

    was_training, device = model.training, next(model.parameters()).device
    size = min(64, int(model.get_input_embeddings().num_embeddings))
    row = TokenRow([token % size for token in range(7, 15)], [token % size for token in range(7, 15)], [])
    before = [TokenRow([token * step % size for token in range(3, 11)], [IGNORE_INDEX] * 8, []) for step in (1, 5)]
    model.eval()
    with torch.inference_mode():
        beside = [
            scored_logits(model, {key: value.to(device) for key, value in to_tensors([one, row]).items()})[0]
            for one in before
        ]
    model.train(was_training)
    return bool(torch.allclose(beside[0], beside[1], rtol=1e-3, atol=1e-3))


def scored_logits(model: Any, pack: dict[str, "torch.Tensor"]) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return the logits (N, vocabulary), in fp32, and targets (N) of the pack's N labelled tokens."""
    scored, targets = _scored(pack)
    # Positions on the host suit a head on any GPU: of a model that several hold, it is not on the first.
    logits = model(**_given(model, pack), logits_to_keep=scored.cpu(), use_cache=False).logits[0]
    return logits.float(), targets


def token_losses(model: Any, pack: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """Return the negative log-likelihood (N), in nats and fp32, of each of the pack's N labelled tokens, with its graph.

    Where the model's head is chunked (`steps.common.model.chunked_head`) the logits are never there as a whole.
    """
    import torch

    from steps.common.model.chunked_head import head_is_chunked

    if not head_is_chunked(model):
        return torch.nn.functional.cross_entropy(*scored_logits(model, pack), reduction="none")
    losses: torch.Tensor = model(**_given(model, pack), losses_of=_scored(pack), use_cache=False)
    return losses


def token_scores(model: Any, pack: dict[str, "torch.Tensor"]) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return those (N), without a graph, and whether the model ranks each of the N tokens first, (N)."""
    import torch

    from steps.common.model.chunked_head import head_is_chunked

    if head_is_chunked(model):
        nats, right = model(**_given(model, pack), scores_of=_scored(pack), use_cache=False)
        return nats, right
    logits, targets = scored_logits(model, pack)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1) == targets


def _scored(pack: dict[str, "torch.Tensor"]) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return the positions whose next token is labelled, and those labels; (N) each."""
    targets = pack["labels"][0, 1:]
    scored = (targets != IGNORE_INDEX).nonzero().flatten()
    return scored, targets[scored]


def _given(model: Any, pack: dict[str, "torch.Tensor"]) -> dict[str, Any]:
    from steps.common.model.attention import row_bounds

    given = {name: pack[name] for name in ("input_ids", "position_ids")}
    return given | row_bounds(model, pack["position_ids"])
