"""Reads every row of a file that was uploaded, as a run would, and refuses the file with the place of the first bad row."""

from pathlib import Path

from api.openai_errors import ApiError
from steps.common.rows.files.file_content import open_content
from steps.common.rows.files.file_kind import suffixes
from steps.common.rows.read_rows import DAMAGE, read_rows
from steps.common.rows.row import BadRow
from steps.common.runtime.errors import UserError, first_line

BLOCK = 1 << 20  # bytes
FEWEST = 2  # rows: one to train on and one to hold out


def check_rows(path: Path, filename: str, most_bytes: int) -> None:
    """Check that a run can read every row of a file.

    Args:
        path: where the content is; its suffixes are those of the name.
        filename: the user's name of it, for messages.
        most_bytes: that it may have when it is decompressed.

    Raises:
        ApiError: it cannot be used; the first reason, with its line or row.
        MemoryError: it takes too much memory to be read.
    """
    _check_unpacked(path, filename, most_bytes)
    count, pairs = 0, False
    try:
        for found in read_rows(path):
            if isinstance(found, BadRow):
                raise _refused(f"{filename}:{found.place.line}: {found.reason}")
            place, row = found
            if count == 0:
                pairs = row.rejected is not None
            elif pairs != (row.rejected is not None):
                this, others = ("is not a pair", "are pairs") if pairs else ("is a pair", "are not")
                raise _refused(
                    f"{filename}:{place.line}: {this} of a chosen and a rejected answer, and the rows before it {others}; put "
                    "pairs into a file of their own"
                )
            count += 1
    except UserError as error:
        if isinstance(error.__context__, MemoryError):
            raise MemoryError from error
        raise _refused(first_line(error).replace(str(path), filename)) from None
    if count < FEWEST:
        has = "one row" if count else "no rows"
        raise _refused(f"{filename}: has {has}; at least two are needed, one to train on and one to hold out")


def _check_unpacked(path: Path, filename: str, most_bytes: int) -> None:
    """Refuse what would fill the memory when it is decompressed. What is damaged is told when its rows are read."""
    if not suffixes(path.name)[1]:
        return
    size = 0
    try:
        with open_content(path) as content:
            while part := content.read(BLOCK):
                size += len(part)
                if size > most_bytes:
                    raise ApiError(
                        413,
                        f"{filename}: has more than {most_bytes} bytes when it is decompressed, which is the most here; "
                        "divide it",
                        param="file",
                    )
    except MemoryError:
        raise
    except DAMAGE:
        return


def _refused(message: str) -> ApiError:
    return ApiError(400, message, param="file", code="invalid_file")
