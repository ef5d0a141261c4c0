"""Tokenises and labels a row: only the assistant's turns are labelled, under the model's own, unmodified chat template.

The template is rendered up to each assistant turn, without and with it. If the longer text starts with the shorter one, the
difference is the turn, and the tokenizer's offsets show which tokens it has. This works without the `{% generation %}`
marks, which few models ship.
"""

from typing import Any

from pydantic import BaseModel

from steps.common.model.packs import IGNORE_INDEX
from steps.common.rows.conversation import Conversation, Message
from steps.common.rows.row import Row


class Example(BaseModel):
    """A row as the model reads it: two lists of the same length."""

    input_ids: list[int]
    labels: list[int]

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return len(self.input_ids)

    @property
    def labelled(self) -> int:
        """Number of labelled tokens."""
        return sum(label != IGNORE_INDEX for label in self.labels)


class LabelError(Exception):
    """The row cannot be labelled; the text says why."""


def example(row: Row, tokenizer: Any, max_tokens: int, *, last_alone: bool = False) -> Example:
    """Tokenise and label one row.

    Args:
        row: a chat or a plain text.
        tokenizer: a fast transformers tokenizer, which provides offsets.
        max_tokens: longest row, in tokens.
        last_alone: label only the last turn of a chat.

    Raises:
        LabelError: the row is too long, or the assistant's turns cannot be found in the rendered template.
    """
    if not row.conversation or not tokenizer.chat_template:
        found = _plain(row, tokenizer, last_alone)
    else:
        found = _chat(row.conversation, tokenizer, last_alone)
    if len(found.input_ids) > max_tokens:
        raise LabelError(f"is {len(found.input_ids)} tokens long, over data.max_tokens ({max_tokens})")
    if not found.labelled:
        raise LabelError("has no token to train on: no assistant turn can be found in the rendered chat template")
    return found


def _plain(row: Row, tokenizer: Any, last_alone: bool) -> Example:
    """Label all of a plain text, or the assistant's texts of a chat for a model without a chat template."""
    turns = row.conversation.messages if row.conversation else (Message("assistant", row.text),)
    ids: list[int] = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    labels = [IGNORE_INDEX] * len(ids)
    for turn, message in enumerate(turns, 1):
        said = message.role == "assistant"
        part = tokenizer(message.content + ("" if said else "\n"), add_special_tokens=False)["input_ids"]
        if said and tokenizer.eos_token_id is not None:
            part = [*part, tokenizer.eos_token_id]
        ids += part
        trained = said and (turn == len(turns) or not last_alone)
        labels += part if trained else [IGNORE_INDEX] * len(part)
    return Example(input_ids=ids, labels=labels)


def _chat(conversation: Conversation, tokenizer: Any, last_alone: bool) -> Example:
    """Label the assistant's turns, or the last one alone."""
    messages = conversation.for_template()
    first = len(messages) - 1 if last_alone else 0

    def render(count: int, *, asking: bool = False) -> str:
        return str(tokenizer.apply_chat_template(messages[:count], tokenize=False, add_generation_prompt=asking))

    try:
        whole = render(len(messages))
        spans = []
        for turn, message in enumerate(messages):
            if message["role"] != "assistant" or turn < first:
                continue
            before, after = render(turn, asking=True), render(turn + 1)
            # Some templates rewrite earlier turns (those of reasoning models drop their thoughts), so the rendered turn is not
            # what the model generates. Such a turn is read but not labelled.
            if after.startswith(before) and whole.startswith(after.rstrip()):
                spans.append((len(before), len(after.rstrip())))
    except Exception as error:  # jinja2's errors, and whatever a template raises on purpose
        raise LabelError(f"is rejected by the model's chat template: {str(error).splitlines()[0]}") from None
    read = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    labels = [
        token if any(start < end_of and end > start_of for start_of, end_of in spans) else IGNORE_INDEX
        for token, (start, end) in zip(read["input_ids"], read["offset_mapping"], strict=True)
    ]
    return Example(input_ids=read["input_ids"], labels=labels)
