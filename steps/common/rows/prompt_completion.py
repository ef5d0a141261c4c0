"""TRL's form: `prompt` and `completion` as lists of messages. Only the completion is learnt.

A prompt that is a text is a question in the sense of `instruction`.
"""

from collections.abc import Callable

from steps.common.rows.beside_messages import conversation_of, row_of
from steps.common.rows.cells.columns import Columns, FormError
from steps.common.rows.instruction import read_answer, read_question
from steps.common.rows.message_list import read_messages
from steps.common.rows.row import Row

EXPECTED = "prompt and completion"
ANSWERS = ("completion", "response", "output", "answer", "generation")


def recognise(has: Callable[..., bool]) -> bool:
    """Return whether the columns are those of the form."""
    # Beside a question, `prompt` is the same, rendered: at times together with the answer.
    answered = any(has(name) for name in ANSWERS) and not any(
        has(name) for name in ("instruction", "question", "query")
    )
    return has("prompt", "completion") or (has("prompt") and answered)


def read(columns: Columns) -> Row:
    """Return the row.

    Raises:
        FormError: the row is not valid in this form.
    """
    prompt, name = columns.messages_or_text("prompt"), columns.first(*ANSWERS)
    if isinstance(prompt, str):
        asked = read_question(columns, "prompt")
    else:
        asked = read_messages(columns, "prompt", prompt, learnt=False)
    answer = columns.messages_or_text(name)
    said = (read_answer(columns, name),) if isinstance(answer, str) else read_messages(columns, name, answer)
    if not any(message.role == "assistant" for message in said):
        raise FormError(f"{columns.shown(name)} has no assistant message")
    return row_of(columns, conversation_of(columns, asked + said), name)
