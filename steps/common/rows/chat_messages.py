"""OpenAI's form: `messages`, with `tools`."""

from collections.abc import Callable

from steps.common.rows.beside_messages import conversation_of, row_of
from steps.common.rows.cells.columns import Columns
from steps.common.rows.message_list import read_messages
from steps.common.rows.row import Row

EXPECTED = "messages"


def recognise(has: Callable[..., bool]) -> bool:
    """Return whether the columns are those of the form."""
    return has("messages")


def read(columns: Columns) -> Row:
    """Return the row.

    Raises:
        FormError: the row is not valid in this form.
    """
    messages = read_messages(columns, "messages", columns.listed("messages"))
    return row_of(columns, conversation_of(columns, messages), "messages")
