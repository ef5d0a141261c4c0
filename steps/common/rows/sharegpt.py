"""ShareGPT's form: `conversations` or `conversation`, a list of `{from, value}`, with the columns `system` and `tools`."""

from collections.abc import Callable

from steps.common.rows.beside_messages import conversation_of, row_of
from steps.common.rows.cells.columns import Columns
from steps.common.rows.message_list import read_messages
from steps.common.rows.row import Row

EXPECTED = "conversations"
NAMES = ("conversations", "conversation")


def recognise(has: Callable[..., bool]) -> bool:
    """Return whether the columns are those of the form."""
    return any(has(name) for name in NAMES)


def read(columns: Columns) -> Row:
    """Return the row.

    Raises:
        FormError: the row is not valid in this form.
    """
    name = columns.first(*NAMES)
    messages = read_messages(columns, name, columns.listed(name))
    return row_of(columns, conversation_of(columns, messages), name)
