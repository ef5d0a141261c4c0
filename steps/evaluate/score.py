"""Held-out loss, token accuracy and answers of one model, loaded as the server will load it."""

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from presets.memory import SCORED_TOKENS
from steps.common import base_model
from steps.common.packs import TokenRow, isolates, pack, scored_logits, to_tensors
from steps.common.pairs import by_row
from steps.common.progress import Progress
from steps.evaluate.preference import summed

Turns = list[tuple[str, str]]


class Score(BaseModel):
    """One model on the held-out rows."""

    loss: float  # nats a labelled token
    accuracy: float  # share of labelled tokens that the model ranks first
    tokens: int  # labelled
    answers: list[str]
    pairs: list[tuple[float, float]] = []  # log-probabilities of the chosen and the rejected answer, in nats

    @property
    def perplexity(self) -> float:
        """e to the loss."""
        return math.exp(min(self.loss, 700))


def score(
    folder: Path,
    rows: list[TokenRow],
    asked: list[Turns],
    answer_tokens: int,
    micro: int,
    device: str,
    who: str,
    *,
    in_4_bits: bool = False,
    adapter: Path | None = None,
    rejected: list[TokenRow] | None = None,
) -> Score:
    """Load a model, score the rows and answer the questions.

    Args:
        folder: of the model, base or merged.
        rows: held-out rows.
        asked: chats that end with a user's turn.
        answer_tokens: longest answer.
        micro: tokens in a micro-batch.
        device: "cpu" or "cuda".
        who: the model's part, for the log.
        in_4_bits: load it as it was tuned, in NF4, and not as it is served.
        adapter: folder of an adapter beside the model; none where it is merged, or where the base itself is scored.
        rejected: where the rows are the chosen sides of pairs, the other sides in the same order.
    """
    import torch
    from transformers import AutoTokenizer

    model = _load(folder, device, in_4_bits, adapter)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    room = min(micro, SCORED_TOKENS) if isolates(model) else 1
    packs = pack(rows, room)
    progress = Progress(len(packs), f"micro-batches of the {who}")
    loss, right, tokens = 0.0, 0, 0
    nats: dict[int, float] = {}  # of each row, by its id
    with torch.inference_mode():
        for number, part in enumerate(packs, 1):
            inputs = {k: v.to(device) for k, v in to_tensors(part).items()}
            logits, targets = scored_logits(model, inputs)
            losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            nats |= dict(zip(map(id, part), by_row(inputs, len(part), losses).tolist(), strict=True))
            loss += float(losses.sum())
            right += int((logits.argmax(-1) == targets).sum())
            tokens += targets.numel()
            progress.update(number, f"loss {loss / max(1, tokens):.3f}")
        other = summed(model, rejected or [], room, device)
        answers = _answers(model, tokenizer, asked, answer_tokens, device) if asked else []
    return Score(
        loss=loss / max(1, tokens),
        accuracy=right / max(1, tokens),
        tokens=tokens,
        answers=answers,
        pairs=[(-nats[id(row)], instead) for row, instead in zip(rows, other, strict=True)] if rejected else [],
    )


def _load(folder: Path, device: str, in_4_bits: bool, adapter: Path | None) -> Any:
    model = base_model.load(folder, device, in_4_bits=in_4_bits)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    return model.eval()


def _answers(model: Any, tokenizer: Any, asked: list[Turns], answer_tokens: int, device: str) -> list[str]:
    """Answer one question after the other, as the server will: in a padded batch bf16 rounds to other words."""
    progress = Progress(len(asked), "answers")
    answers = []
    for number, turns in enumerate(asked, 1):
        text = _prompt(tokenizer, turns)
        given = tokenizer(text, return_tensors="pt", add_special_tokens=not tokenizer.chat_template).to(device)
        written = model.generate(
            input_ids=given["input_ids"],
            attention_mask=given["attention_mask"],
            max_new_tokens=answer_tokens,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        )
        answers.append(tokenizer.decode(written[0, given["input_ids"].shape[1] :], skip_special_tokens=True).strip())
        progress.update(number)
    return answers


def _prompt(tokenizer: Any, turns: Turns) -> str:
    if not tokenizer.chat_template:
        return "\n".join(text for _, text in turns) + "\n"
    messages = [{"role": role, "content": text} for role, text in turns]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
