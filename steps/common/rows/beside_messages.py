"""What a row has beside its messages: system message, tools, documents; and what of a conversation is to be learnt."""

from dataclasses import replace

from steps.common.rows.cells.columns import Columns, FormError, is_empty
from steps.common.rows.cells.message_text import read_content
from steps.common.rows.cells.tool_calls import read_documents, read_tools
from steps.common.rows.conversation import Conversation, Message
from steps.common.rows.row import Row

SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")


def conversation_of(columns: Columns, messages: tuple[Message, ...]) -> Conversation:
    """Return messages with the system message, tools and documents of the row's columns.

    Raises:
        FormError: a column is not valid, or contradicts the messages.
    """
    return Conversation(_with_system(columns, messages), read_tools(columns), read_documents(columns))


def row_of(columns: Columns, conversation: Conversation, name: str) -> Row:
    """Return the row of a conversation, up to the last message that is to be learnt: what follows has no effect.

    Args:
        columns: the row.
        conversation: all that is said.
        name: the column with the messages.

    Raises:
        FormError: nothing is to be learnt.
    """
    messages = conversation.messages
    if not any(message.role == "assistant" for message in messages):
        raise FormError("has no assistant message, so there is nothing to train on")
    learnt = [number for number, message in enumerate(messages, 1) if message.role == "assistant" and message.learnt]
    if not learnt:
        raise FormError("has no assistant message to train on: the weight of each is 0")
    for number in learnt:
        if not messages[number - 1].content.strip() and not messages[number - 1].tool_calls:
            raise FormError(f"message {number} (assistant) has only thoughts")
    if learnt[-1] < len(messages):
        columns.ignore(f"{name}[] after the last one learned")
    return Row(replace(conversation, messages=messages[: learnt[-1]]))


def _with_system(columns: Columns, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    found = {name: columns.use(name) for name in SYSTEM_COLUMNS if columns.has(name)}
    for name, value in found.items():
        system = read_content(value, columns.shown(name))[1]
        if is_empty(system):
            continue
        if not messages or messages[0].role != "system":
            messages = (Message("system", system), *messages)
        elif messages[0].content.strip() != system.strip():
            raise FormError(
                f"{columns.shown(name)} differs from the system message that the row has already; keep one of them"
            )
    return messages
