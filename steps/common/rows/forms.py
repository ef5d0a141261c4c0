"""The forms of rows, recognised by their columns, and the conversion of each to a `Row`.

Each form is a module: `chat_messages`, `sharegpt`, `prompt_completion`, `instruction`, `preference`. Plain text has one
column, `text`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from steps.common.rows import chat_messages, instruction, preference, prompt_completion, sharegpt
from steps.common.rows.cells.columns import Columns, FormError
from steps.common.rows.row import Row

__all__ = ["FormError", "to_row"]

# In this order: some datasets repeat the chosen conversation as `messages`, or the first question as `prompt`.
FORMS = (preference, chat_messages, sharegpt, prompt_completion, instruction)
EXPECTED = ", ".join(form.EXPECTED for form in FORMS[1:])
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
SEVERAL_ANSWERS = ("completions", "responses", "outputs", "answers")


def to_row(columns: Mapping[str, Any]) -> Row:
    """Convert a row in any known form to a `Row`.

    Raises:
        FormError: the row cannot be converted.
    """
    row_columns = Columns(columns)
    try:
        row = _read(row_columns)
    except RecursionError:
        raise FormError("is nested too deeply") from None
    row_columns.ignore_rest()
    _check_characters(row)
    return replace(row, ignored=row_columns.ignored)


def _read(columns: Columns) -> Row:
    # First by the columns that have a value: a table has all columns of all its rows. Then by those that are there, to say
    # what is wrong with them.
    for there in (columns.has, columns.names):
        for form in FORMS:
            if form.recognise(there):
                _check_refused(columns, rated=form is not preference)
                row: Row = form.read(columns)
                return row
        if there("text"):
            _check_refused(columns, rated=False)
            return Row(text=columns.text("text"))
    several = next((name for name in SEVERAL_ANSWERS if columns.has(name)), "")
    if several:
        raise FormError(
            f"{columns.shown(several)} holds several answers; give each row one, as 'completion' or 'answer'"
        )
    raise FormError(f"has the columns {columns}; expected are {EXPECTED}, text, or {preference.EXPECTED}")


def _check_refused(columns: Columns, *, rated: bool) -> None:
    """Refuse columns that change what the rest of the row means."""
    media = next((name for name in MEDIA if columns.has(name)), "")
    if media:
        raise FormError(f"{columns.shown(media)} has images, audio or video; Fineline learns from text only")
    for name in ("label", "kto_tag"):
        if rated and _is_rating(name, columns.peek(name)):
            raise FormError(
                f"{columns.shown(name)} marks the answer as good or bad, which is not supported: keep the good rows without "
                f"it, or pair each with a bad one in the columns {preference.EXPECTED}"
            )


def _is_rating(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("true", "false", *(("0", "1") if name == "kto_tag" else ()))
    # A number in `label` may be the class of a text, or anything.
    return isinstance(value, bool) or (name == "kto_tag" and value in (0, 1))


def _check_characters(row: Row) -> None:
    found = row.conversation
    messages = (*found.messages, *([row.rejected] if row.rejected else [])) if found else ()
    texts = [text for message in messages for text in (message.text, message.name)]
    for text in [*texts, found.tools, found.documents] if found else [row.text]:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                half = text[error.start]
                raise FormError(f"has {half!a}, half of a character: a text was cut inside a surrogate pair") from None
