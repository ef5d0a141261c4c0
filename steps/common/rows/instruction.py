"""A question and its answer in columns of their own: Alpaca's form, Dolly's, and those with `question` or `query`.

What belongs to the question stands in further columns (`input`, `context`), and earlier turns in `history`.
"""

from collections.abc import Callable
from typing import Any

from steps.common.rows.beside_messages import conversation_of, row_of
from steps.common.rows.cells.columns import Columns, FormError, is_empty, kind_of, says_nothing
from steps.common.rows.cells.message_text import same_thoughts
from steps.common.rows.cells.tool_calls import read_calls
from steps.common.rows.conversation import Message, ToolCall
from steps.common.rows.message_list import ROLE_KEYS, THOUGHT_KEYS, message_text, read_messages
from steps.common.rows.row import Row

EXPECTED = "instruction and output, question and answer"
QUESTIONS = ("instruction", "question", "query", "input")
ANSWERS = ("output", "response", "answer", "completion", "answers")
# What stands behind the question, in this order. `text` and `prompt` would repeat it: some datasets add them, rendered.
PARTS = {
    "instruction": ("question", "query", "input", "context", "contexts"),
    "prompt": ("input", "context", "contexts"),
    "question": ("input", "context", "contexts"),
    "query": ("input", "context", "contexts"),
    "input": ("context", "contexts"),
}
THOUGHTS = (*THOUGHT_KEYS, "complex_cot", "chain_of_thought")


def recognise(has: Callable[..., bool]) -> bool:
    """Return whether the columns are those of the form."""
    return any(has(name) for name in QUESTIONS) and any(has(name) for name in ANSWERS)


def read(columns: Columns) -> Row:
    """Return the row.

    Raises:
        FormError: the row is not valid in this form.
    """
    name = columns.first(*ANSWERS)
    asked = read_question(columns, columns.first(*QUESTIONS))
    said = _called(columns) if name == "answers" else read_answer(columns, name)
    return row_of(columns, conversation_of(columns, (*asked, said)), name)


def read_question(columns: Columns, name: str) -> tuple[Message, ...]:
    """Return the earlier turns and the question.

    Args:
        columns: the row.
        name: the column with the question.

    Raises:
        FormError: a column is not valid.
    """
    parts = [columns.text(name), *(_part(columns, part) for part in PARTS[name])]
    return (*_history(columns), message_text("user", "\n\n".join(part for part in parts if part)))


def read_answer(columns: Columns, name: str) -> Message:
    """Return the answer, with the thoughts that stand before it or in a column.

    Raises:
        FormError: a column is not valid.
    """
    answer = columns.text(name)
    thoughts = [columns.text(column) for column in THOUGHTS if columns.has(column)]
    return message_text("assistant", answer, thinking=same_thoughts(thoughts, "the row"))


def _part(columns: Columns, name: str) -> str:
    """Return a further column of the question: a text, or several."""
    value = columns.use(name)
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return "\n\n".join(value)
    return columns.text(name, optional=True)


def _called(columns: Columns) -> Message:
    """Return the answer of a row whose `answers` are the calls that the assistant makes at once."""
    name = columns.shown("answers")
    calls = columns.listed("answers")
    if not all(isinstance(call, dict) and ("name" in call or "function" in call) for call in calls):
        raise FormError(f"{name} holds several answers; give each row one, as 'answer'")
    return Message("assistant", tool_calls=tuple(ToolCall(tool, given) for _, tool, given in read_calls(calls, name)))


def _history(columns: Columns) -> tuple[Message, ...]:
    if says_nothing(columns.use("history")):
        return ()
    turns = columns.listed("history")
    if all(isinstance(turn, dict) and any(key in turn for key in ROLE_KEYS) for turn in turns):
        return read_messages(columns, "history", turns)
    return tuple(message for number, turn in enumerate(turns, 1) for message in _exchange(turn, number))


def _exchange(turn: Any, number: int) -> list[Message]:
    if not isinstance(turn, list | tuple) or len(turn) != 2:
        raise FormError(f"turn {number} of 'history' is {kind_of(turn)}, not a list of a question and its answer")
    wrong = next((said for said in turn if not is_empty(said) and not isinstance(said, str)), None)
    if wrong is not None:
        raise FormError(f"turn {number} of 'history' has {kind_of(wrong)} where a text belongs")
    asked, said = turn
    found = [] if is_empty(asked) else [message_text("user", asked)]
    return found if is_empty(said) else [*found, message_text("assistant", said)]
