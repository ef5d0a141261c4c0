"""Preference pairs: two answers to one prompt, of which one is preferred.

TRL's `chosen` and `rejected`, with the prompt in a column or inside both; OpenAI's `input`, `preferred_output` and
`non_preferred_output`; and `messages` whose last answer is preferred to `rejected_response`.
"""

from collections.abc import Callable
from dataclasses import replace

from steps.common.rows.beside_messages import conversation_of
from steps.common.rows.cells.columns import Columns, FormError
from steps.common.rows.conversation import Conversation, Message
from steps.common.rows.instruction import QUESTIONS, read_question
from steps.common.rows.message_list import message_text, read_messages
from steps.common.rows.row import Row

EXPECTED = "prompt, chosen and rejected"
OPENAI = ("preferred_output", "non_preferred_output")
LISTS = ("messages", "conversations", "conversation")
REJECTED = ("rejected_response", "rejected_messages")
Messages = tuple[Message, ...]


def recognise(has: Callable[..., bool]) -> bool:
    """Return whether the columns are those of the form."""
    rejected_beside = any(has(name) for name in REJECTED) and any(has(name) for name in LISTS)
    return has("chosen", "rejected") or has(*OPENAI) or rejected_beside


def read(columns: Columns) -> Row:
    """Return the row.

    Raises:
        FormError: the row is not valid in this form.
    """
    if columns.names("chosen", "rejected"):
        return _trl(columns)
    return _openai(columns) if columns.names(*OPENAI) else _rejected_beside(columns)


def _trl(columns: Columns) -> Row:
    """Read `chosen` and `rejected`, each with the prompt inside or without it."""
    sides = {name: _said(columns, name) for name in ("chosen", "rejected")}
    if not all(_is_whole(said) for said in sides.values()):
        prompt = _prompt(columns, next(name for name, said in sides.items() if not _is_whole(said)))
        sides = {name: said if _is_whole(said) else prompt + said for name, said in sides.items()}
    else:
        for name, said in sides.items():
            _check_prompt(columns, name, said)
    _check_sides(columns, sides)
    return _row(conversation_of(columns, sides["chosen"]), sides["rejected"])


def _openai(columns: Columns) -> Row:
    within = columns.inner("input")
    prompt = conversation_of(within, _as_prompt(read_messages(within, "messages", within.listed("messages"))))
    sides = {name: prompt.messages + _said(columns, name) for name in OPENAI}
    _check_sides(columns, sides)
    chosen = conversation_of(columns, sides[OPENAI[0]])
    within.ignore_rest()
    tools, documents = prompt.tools or chosen.tools, prompt.documents or chosen.documents
    return _row(replace(chosen, tools=tools, documents=documents), sides[OPENAI[1]])


def _rejected_beside(columns: Columns) -> Row:
    name, rejected = columns.first(*LISTS), columns.first(*REJECTED)
    chosen = _as_prompt(read_messages(columns, name, columns.listed(name)))
    other = _said(columns, rejected)
    sides = {name: chosen, rejected: other if _is_whole(other) else chosen[: -len(other)] + other}
    _check_sides(columns, sides)
    return _row(conversation_of(columns, chosen), sides[rejected])


def _said(columns: Columns, name: str) -> Messages:
    """Return an answer: its text as a message, or its messages."""
    value = columns.messages_or_text(name)
    if isinstance(value, str):
        return (message_text("assistant", value),)
    said = read_messages(columns, name, value)
    if said and not said[-1].learnt:
        raise FormError(f"{columns.shown(name)} has an answer with the weight 0")
    return _as_prompt(said)


def _is_whole(said: Messages) -> bool:
    """Return whether an answer contains its prompt."""
    return any(message.role == "user" for message in said)


def _as_prompt(messages: Messages) -> Messages:
    """Return messages without marks of what is learnt: of a pair, only the answer is scored."""
    return tuple(replace(message, learnt=True) for message in messages)


def _prompt(columns: Columns, answer: str) -> Messages:
    """Return the prompt of an answer that does not contain it."""
    if columns.has("prompt"):
        prompt = columns.messages_or_text("prompt")
        if isinstance(prompt, str):
            return read_question(columns, "prompt")
        return _as_prompt(read_messages(columns, "prompt", prompt))
    name = columns.first(*LISTS)
    if name and columns.has(name):
        messages = _as_prompt(read_messages(columns, name, columns.listed(name)))
        if messages and messages[-1].role == "assistant":
            raise FormError(f"{columns.shown(name)} ends with an answer, so it is no prompt of {columns.shown(answer)}")
        return messages
    name = columns.first(*QUESTIONS)
    if name and columns.has(name):
        return read_question(columns, name)
    raise FormError(f"{columns.shown(answer)} is only an answer, and there is no column 'prompt' with the question")


def _check_prompt(columns: Columns, answer: str, said: Messages) -> None:
    """Check that a prompt that is given beside whole conversations is theirs."""
    name = columns.first("prompt", "question")
    if not name or not columns.has(name):
        return
    prompt = columns.messages_or_text(name)
    what = f"{columns.shown(answer)} is a whole conversation, and"
    if isinstance(prompt, str):
        if prompt.strip() not in {message.content.strip() for message in said}:
            raise FormError(f"{what} {columns.shown(name)} is not one of its messages")
    elif said[: len(prompt)] != _as_prompt(read_messages(columns, name, prompt)):
        raise FormError(f"{what} does not begin with {columns.shown(name)}")


def _check_sides(columns: Columns, sides: dict[str, Messages]) -> None:
    for name, said in sides.items():
        if not said or said[-1].role != "assistant":
            raise FormError(f"{columns.shown(name)}, with its prompt, does not end with an assistant message")
    (good, chosen), (bad, rejected) = sides.items()
    names = f"{columns.shown(good)} and {columns.shown(bad)}"
    at = next((n for n, (a, b) in enumerate(zip(chosen[:-1], rejected[:-1], strict=False), 1) if a != b), 0)
    if at or len(chosen) != len(rejected):
        where = f"in message {at}" if at else f"in length, {len(chosen)} and {len(rejected)} messages"
        raise FormError(f"{names} do not answer the same prompt: they differ {where}, and only the last may differ")
    if chosen[-1].text.split() == rejected[-1].text.split():
        raise FormError(f"{names} are the same answer, so there is nothing to prefer")


def _row(conversation: Conversation, rejected: Messages) -> Row:
    return Row(conversation, rejected=rejected[-1])
