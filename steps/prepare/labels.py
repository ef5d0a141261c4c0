"""Tokens and labels of a row: only what the assistant says is learnt, under the model's own, unmodified template.

The template is rendered up to each assistant turn and with it; where the longer text begins with the shorter one, the
difference is the turn, and the tokenizer's offsets tell which tokens lie in it. That needs no template with
`{% generation %}` marks, which few models ship.
"""

from typing import Any

from pydantic import BaseModel

from steps.common.model.packs import IGNORE_INDEX
from steps.common.rows.row import Row


class Example(BaseModel):
    """A row as the model reads it; two lists of the same length."""

    input_ids: list[int]
    labels: list[int]

    @property
    def tokens(self) -> int:
        """How many tokens are read."""
        return len(self.input_ids)

    @property
    def labelled(self) -> int:
        """How many tokens are learnt."""
        return sum(label != IGNORE_INDEX for label in self.labels)


class LabelError(Exception):
    """The row cannot be labelled; the text says why."""


def example(row: Row, tokenizer: Any, max_tokens: int, *, last_alone: bool = False) -> Example:
    """Tokenise and label one row.

    Args:
        row: a chat or a plain text.
        tokenizer: a fast tokenizer of transformers, which knows the offsets.
        max_tokens: longest row in tokens.
        last_alone: of a chat, only the last turn is learnt.

    Raises:
        LabelError: the row is too long, or its template gives no assistant turn that can be told apart.
    """
    if row.text or not tokenizer.chat_template:
        found = _plain(row, tokenizer, last_alone)
    else:
        messages = [{"role": role, "content": content} for role, content in row.messages]
        found = _chat(messages, tokenizer, len(messages) - 1 if last_alone else 0)
    if len(found.input_ids) > max_tokens:
        raise LabelError(f"is {len(found.input_ids)} tokens long, over data.max_tokens ({max_tokens})")
    if not found.labelled:
        raise LabelError("has no token to learn: the chat template tells no assistant turn apart")
    return found


def _plain(row: Row, tokenizer: Any, last_alone: bool) -> Example:
    """Plain text is learnt whole; a chat of a model without a template is its texts in turn, the assistant's learnt."""
    turns = row.messages or (("assistant", row.text),)
    ids: list[int] = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    labels = [IGNORE_INDEX] * len(ids)
    for turn, (role, text) in enumerate(turns, 1):
        part = tokenizer(text + ("" if role == "assistant" else "\n"), add_special_tokens=False)["input_ids"]
        if role == "assistant" and tokenizer.eos_token_id is not None:
            part = [*part, tokenizer.eos_token_id]
        ids += part
        learnt = role == "assistant" and (turn == len(turns) or not last_alone)
        labels += part if learnt else [IGNORE_INDEX] * len(part)
    return Example(input_ids=ids, labels=labels)


def _chat(messages: list[dict[str, str]], tokenizer: Any, first: int) -> Example:
    """Label the assistant's turns, from the message `first` on."""

    def render(count: int, *, asking: bool = False) -> str:
        return str(tokenizer.apply_chat_template(messages[:count], tokenize=False, add_generation_prompt=asking))

    try:
        whole = render(len(messages))
        spans = []
        for turn, message in enumerate(messages):
            if message["role"] != "assistant" or turn < first:
                continue
            before, after = render(turn, asking=True), render(turn + 1)
            # A template that rewrites earlier turns (reasoning models drop their thoughts) shows the model another
            # text later than when it answers: such a turn is not learnt, only read.
            if after.startswith(before) and whole.startswith(after.rstrip()):
                spans.append((len(before), len(after.rstrip())))
    except Exception as error:  # jinja2's own errors, and whatever a template raises on purpose
        raise LabelError(f"the model's chat template refuses it: {str(error).splitlines()[0]}") from None
    read = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    labels = [
        token if any(start < end_of and end > start_of for start_of, end_of in spans) else IGNORE_INDEX
        for token, (start, end) in zip(read["input_ids"], read["offset_mapping"], strict=True)
    ]
    return Example(input_ids=read["input_ids"], labels=labels)
