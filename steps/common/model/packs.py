"""Packs: whole rows concatenated into one sequence, a micro-batch, and the losses of its labelled tokens.

Positions restart at each row. From them transformers builds a mask that keeps rows from attending to each other
(`transformers.masking_utils.find_packed_sequence_indices`), or `attention` computes row by row. The head runs only on the
positions that are scored: with a vocabulary of 49,152 it would otherwise take a fifth of the work and most of the memory.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from steps.common.model.packing import PackedNumbers, pack_lengths
from steps.common.rows.conversation import Conversation

if TYPE_CHECKING:
    import numpy
    import torch

IGNORE_INDEX = -100  # the label of a token that is not trained on
# Packs are padded to multiples of 16 tokens, so that only a few lengths occur. On a CPU, oneDNN caches a set of kernels for
# each new length: with SmolLM2-135M some 8 MB per training step until every length has occurred. On a GPU, matrix products
# are faster with multiples of 16.
LENGTH_MULTIPLE = 16


@dataclass(frozen=True)
class TokenRow:
    """A prepared row: tokens, equally many labels, and its conversation; None for plain text."""

    input_ids: list[int]
    labels: list[int]
    conversation: Conversation | None = None


class Packable(Protocol):
    """What is packed, and never split: a row, or a pair of rows."""

    @property
    def input_ids(self) -> list[int]:
        """All its tokens."""


Packed = TypeVar("Packed", bound=Packable)
AnyPacked = TypeVar("AnyPacked", bound=Packable, covariant=True)


class MeasuredRows(Sequence[AnyPacked], Generic[AnyPacked]):
    """Rows whose lengths are known without reading them."""

    lengths: "numpy.ndarray"  # tokens of each row; shape (rows)
    ties: "numpy.ndarray"  # by which rows of the same length are ordered; shape (rows)


def pack(rows: Sequence[Packed], tokens: int) -> "RowPacks[Packed]":
    """Put rows into packs of at most `tokens`, see `steps.common.model.packing`.

    A row longer than `tokens` gets a pack of its own. The result does not depend on the order of the rows.
    """
    return RowPacks(rows, packed_numbers(rows, tokens))


def packed_numbers(rows: Sequence[Packable], tokens: int) -> PackedNumbers:
    """Return the packs of `pack` as the places of their rows in `rows`."""
    import numpy

    if isinstance(rows, MeasuredRows):
        return pack_lengths(rows.lengths, rows.ties, tokens)
    ties = numpy.empty(len(rows), numpy.int64)
    ties[sorted(range(len(rows)), key=lambda place: rows[place].input_ids)] = numpy.arange(len(rows))
    return pack_lengths(numpy.array([len(row.input_ids) for row in rows], numpy.int64), ties, tokens)


class RowPacks(Sequence[list[Packed]]):
    """Packs of rows, which are read when they are needed."""

    def __init__(self, rows: Sequence[Packed], packs: Sequence[Iterable[int]]) -> None:
        """Refer to the rows of each pack.

        Args:
            rows: all rows.
            packs: the places of the rows of each pack.
        """
        self._rows, self._packs = rows, packs

    def __len__(self) -> int:
        return len(self._packs)

    def __getitem__(self, number: int) -> list[Packed]:  # type: ignore[override]
        """Read the rows of one pack."""
        return [self._rows[int(place)] for place in self._packs[number]]


def to_tensors(rows: Sequence[TokenRow], length: int = 0) -> dict[str, "torch.Tensor"]:
    """Return a pack as tensors of shape (1, T): input_ids, position_ids and labels.

    A row's first token has no label, since no token of its row precedes it. Padding follows the rows, as one more row
    without labels.

    Args:
        rows: of the pack.
        length: T, if it exceeds the rows' tokens; otherwise T is the next multiple of 16.
    """
    import torch

    tokens = sum(len(row.input_ids) for row in rows)
    padding = -tokens % LENGTH_MULTIPLE if tokens > length else length - tokens
    padded = [*rows, TokenRow([0] * padding, [IGNORE_INDEX] * padding)] if padding else rows
    ids = [token for row in padded for token in row.input_ids]
    positions = [position for row in padded for position in range(len(row.input_ids))]
    labels = [label for row in padded for label in (IGNORE_INDEX, *row.labels[1:])]
    tensors = {"input_ids": ids, "position_ids": positions, "labels": labels}
    return {name: torch.tensor([values], dtype=torch.long) for name, values in tensors.items()}


ISOLATION_PASSES = 2  # forward passes that `isolates` makes


def isolates_rows(model: Any) -> bool:
    """Return whether the rows of a pack do not attend to each other in this model.

    Most of transformers' models build their mask from the positions. Falcon, for one, builds its own mask, and silently lets
    each row attend to the rows before it. The test: whether the logits of a row change with the row before it.
    """
    import torch

    was_training, device = model.training, next(model.parameters()).device
    size = min(64, int(model.get_input_embeddings().num_embeddings))
    row = TokenRow([token % size for token in range(7, 15)], [token % size for token in range(7, 15)])
    predecessors = [TokenRow([token * step % size for token in range(3, 11)], [IGNORE_INDEX] * 8) for step in (1, 5)]
    model.eval()
    with torch.inference_mode():
        first, second = (
            scored_logits(model, {key: value.to(device) for key, value in to_tensors([one, row]).items()})[0]
            for one in predecessors
        )
    model.train(was_training)
    return bool(torch.allclose(first, second, rtol=1e-3, atol=1e-3))


def scored_logits(model: Any, pack: dict[str, "torch.Tensor"]) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return the logits (N, vocabulary), in fp32, and the targets (N) of a pack's N labelled tokens."""
    scored, targets = _scored(pack)
    # Positions on the host work for a head on any device; in a model that spans several GPUs, it is not on the first.
    logits = model(**_model_inputs(model, pack), logits_to_keep=scored.cpu(), use_cache=False).logits[0]
    return logits.float(), targets


def token_losses(model: Any, pack: dict[str, "torch.Tensor"]) -> "torch.Tensor":
    """Return the negative log-likelihoods (N) of a pack's N labelled tokens: nats, in fp32, with their graph.

    With a chunked head (`steps.common.model.chunked_head`) the full logits are never materialised.
    """
    import torch

    from steps.common.model.chunked_head import head_is_chunked

    if not head_is_chunked(model):
        return torch.nn.functional.cross_entropy(*scored_logits(model, pack), reduction="none")
    losses: torch.Tensor = model(**_model_inputs(model, pack), losses_of=_scored(pack), use_cache=False)
    return losses


def token_scores(model: Any, pack: dict[str, "torch.Tensor"]) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return the negative log-likelihoods (N), without a graph, and whether the model ranks each token first (N)."""
    import torch

    from steps.common.model.chunked_head import head_is_chunked

    if head_is_chunked(model):
        nats, right = model(**_model_inputs(model, pack), scores_of=_scored(pack), use_cache=False)
        return nats, right
    logits, targets = scored_logits(model, pack)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1) == targets


def _scored(pack: dict[str, "torch.Tensor"]) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return the positions (N) whose next token is labelled, and those labels (N)."""
    targets = pack["labels"][0, 1:]
    scored = (targets != IGNORE_INDEX).nonzero().flatten()
    return scored, targets[scored]


def _model_inputs(model: Any, pack: dict[str, "torch.Tensor"]) -> dict[str, Any]:
    from steps.common.model.attention import row_bounds

    inputs = {name: pack[name] for name in ("input_ids", "position_ids")}
    return inputs | row_bounds(model, pack["position_ids"])
