"""Scores one model on everything that is measured, loaded as the server will load it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steps.common.handover.resolved import ResolvedChat
from steps.common.model import base_model
from steps.common.model.chat_template import ChatTemplate
from steps.common.model.packs import TokenRow, isolates_rows
from steps.common.rows.conversation import Conversation
from steps.common.runtime.errors import UserError
from steps.common.storage.record import Record
from steps.evaluate.scores import general
from steps.evaluate.scores.answers import answer_chats
from steps.evaluate.scores.lm_eval_rows import LmEvalRows, score_lm_eval
from steps.evaluate.scores.row_losses import RowLosses, row_losses


class Score(Record):
    """One model on the held-out rows, in their order, and on the questions and tasks."""

    nats: list[float]  # cross-entropy of each row, summed over its labelled tokens
    labelled: list[int]  # labelled tokens of each row
    right: list[int]  # labelled tokens of each row that the model ranks first
    answers: list[str]
    general: list[bool] = []  # for each general question: whether the right option is the most likely one
    lm_eval: list[list[float]] = []  # for each task of lm-eval: its metric, row by row
    rejected: list[float] = []  # for preference pairs: nats of each rejected answer; the rows are the chosen ones

    @property
    def loss(self) -> float:
        """Nats per labelled token."""
        return sum(self.nats) / max(1, self.tokens)

    @property
    def accuracy(self) -> float:
        """Share of the labelled tokens that the model ranks first."""
        return sum(self.right) / max(1, self.tokens)

    @property
    def tokens(self) -> int:
        """Labelled tokens."""
        return sum(self.labelled)

    @property
    def perplexity(self) -> float:
        """e to the power of the loss."""
        return math.exp(min(self.loss, 700))


# By role, for a loss that is not finite.
REMEDIES = {
    "base": "choose another base model or revision",
    "candidate": "lower tune.learning_rate, and run again",
    "champion": "withdraw it: fineline rollback NAME",
}


@dataclass(frozen=True)
class EvaluationSet:
    """What every model is scored on."""

    rows: Sequence[TokenRow]  # held out
    chats: list[Conversation]  # to answer
    answer_tokens: int  # of the longest answer
    general: bool  # whether the general questions are part of it
    rejected: Sequence[TokenRow] = ()  # for preference pairs: the rejected sides, in the rows' order
    lm_eval: list[LmEvalRows] = field(default_factory=list)
    chat: ResolvedChat = field(default_factory=ResolvedChat)  # how the model is asked
    with_special_tokens: list[int] = field(default_factory=list)  # places of the chats whose answers keep them


def score(
    folder: Path,
    evaluation: EvaluationSet,
    micro_batch_tokens: int,
    device: str,
    who: str,
    *,
    in_4_bits: bool = False,
    adapter: Path | None = None,
    gpus: int = 1,
) -> Score:
    """Load a model and score it.

    Args:
        folder: of the model, base or merged.
        evaluation: what to score it on.
        micro_batch_tokens: tokens per forward pass.
        device: "cpu" or "cuda".
        who: the model's role, for the log.
        in_4_bits: load it in NF4, as it was tuned, and not as it is served.
        adapter: folder of an adapter to load on top of the model; None for a merged model and for the base itself.
        gpus: how many GPUs to shard the model's layers over, if it does not fit a single one.

    Raises:
        UserError: its loss is not finite, so there is nothing to compare.
    """
    from transformers import AutoTokenizer

    model = _load(folder, device, in_4_bits, adapter, gpus)
    template = ChatTemplate(AutoTokenizer.from_pretrained(folder), evaluation.chat.template_arguments)
    packed = isolates_rows(model)

    def losses(rows: Sequence[TokenRow], tokens: int, what: str) -> RowLosses:
        return row_losses(model, rows, tokens, device, what, packed=packed)

    held_out = losses(evaluation.rows, micro_batch_tokens, f"the {who}")
    _check_finite(held_out, who)
    rejected = (
        losses(evaluation.rejected, micro_batch_tokens, f"the {who}'s rejected answers")
        if evaluation.rejected
        else None
    )
    right_options = []
    if evaluation.general:
        tokens = min(micro_batch_tokens, general.PACK_TOKENS)
        options = losses(general.option_rows(template), tokens, f"the {who}'s general ability")
        right_options = general.right_options(options)
    answers = answer_chats(
        model,
        template,
        evaluation.chats,
        evaluation.answer_tokens,
        device,
        evaluation.chat.end_of_turn,
        evaluation.with_special_tokens,
    )
    return Score(
        nats=held_out.nats,
        labelled=held_out.labelled,
        right=held_out.right,
        answers=answers,
        general=right_options,
        lm_eval=score_lm_eval(model, template, evaluation.lm_eval, who),
        rejected=rejected.nats if rejected else [],
    )


def _check_finite(losses: RowLosses, who: str) -> None:
    useless = sum(not math.isfinite(nats) for nats in losses.nats)
    if useless:
        raise UserError(
            f"evaluate: the {who}'s loss is not finite on {useless} of {len(losses.nats)} held-out rows; "
            f"{REMEDIES[who]}"
        )


def _load(folder: Path, device: str, in_4_bits: bool, adapter: Path | None, gpus: int) -> Any:
    from steps.common.model.chunked_head import chunk_head

    # Sharded layers compute one after another, on one GPU at a time.
    device_map = "balanced" if gpus > 1 else None
    model = base_model.load_base_model(folder, device, in_4_bits=in_4_bits, device_map=device_map)
    chunk_head(model)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    return model.eval()
