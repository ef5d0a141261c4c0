"""Everything that is measured of one model, loaded as the server will load it."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from steps.common.model import base_model
from steps.common.model.packs import TokenRow, isolates_rows
from steps.evaluate.scores import general
from steps.evaluate.scores.answers import Turns, answers
from steps.evaluate.scores.lm_eval_rows import HarnessRows, harness_values
from steps.evaluate.scores.row_losses import RowLosses, row_losses


class Score(BaseModel):
    """One model on the held-out rows, row by row in their order, and on what it was asked."""

    nats: list[float]  # cross-entropy of each row, summed over its labelled tokens
    labelled: list[int]  # tokens of each row
    right: list[int]  # of them those that the model ranks first
    answers: list[str]
    general: list[bool] = []  # of each item of the guard: whether the right option is the likeliest
    lm_eval: list[list[float]] = []  # of each task of lm-eval: its metric, row by row
    rejected: list[float] = []  # where the rows are the chosen sides of pairs: nats of each other side

    @property
    def loss(self) -> float:
        """Nats a labelled token."""
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
        """e to the loss."""
        return math.exp(min(self.loss, 700))


@dataclass(frozen=True)
class Wanted:
    """What is to be measured, of every model alike."""

    rows: list[TokenRow]  # held out
    asked: list[Turns]  # chats to answer
    answer_tokens: int  # longest answer
    general: bool  # whether the guard's questions are asked
    rejected: list[TokenRow] = field(default_factory=list)  # of pairs the other sides, in the rows' order
    lm_eval: list[HarnessRows] = field(default_factory=list)


def score(
    folder: Path,
    wanted: Wanted,
    micro: int,
    device: str,
    who: str,
    *,
    in_4_bits: bool = False,
    adapter: Path | None = None,
    gpus: int = 1,
) -> Score:
    """Load a model and measure it.

    Args:
        folder: of the model, base or merged.
        wanted: what to measure.
        micro: tokens in a micro-batch.
        device: "cpu" or "cuda".
        who: the model's part, for the log.
        in_4_bits: load it as it was tuned, in NF4, and not as it is served.
        adapter: folder of an adapter beside the model; none where it is merged, or where the base itself is scored.
        gpus: among which the model is dealt out, where it fits no single one.
    """
    from transformers import AutoTokenizer

    model = _load(folder, device, in_4_bits, adapter, gpus)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    packed = isolates_rows(model)

    def losses(rows: list[TokenRow], tokens: int, what: str) -> RowLosses:
        return row_losses(model, rows, tokens, device, what, packed=packed)

    held_out = losses(wanted.rows, micro, f"the {who}")
    others = losses(wanted.rejected, micro, f"the {who}'s rejected answers") if wanted.rejected else None
    chosen = []
    if wanted.general:
        tokens = min(micro, general.PACK_TOKENS)
        chosen = general.right(losses(general.option_rows(tokenizer), tokens, f"the {who}'s general ability"))
    said = answers(model, tokenizer, wanted.asked, wanted.answer_tokens, device)
    return Score(
        nats=held_out.nats,
        labelled=held_out.labelled,
        right=held_out.right,
        answers=said,
        general=chosen,
        lm_eval=harness_values(model, tokenizer, wanted.lm_eval, who),
        rejected=others.nats if others else [],
    )


def _load(folder: Path, device: str, in_4_bits: bool, adapter: Path | None, gpus: int) -> Any:
    from steps.common.model.chunked_head import chunk_head

    # Dealt out, the layers compute one after the other, on one GPU at a time.
    model = base_model.load_base_model(folder, device, in_4_bits=in_4_bits, device_map="balanced" if gpus > 1 else None)
    chunk_head(model)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    return model.eval()
