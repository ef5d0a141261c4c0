"""Reads rows from data files, each with its place. A bad row is returned, not raised.

Reading has two halves: `read_raw` gets the records out of a file, and `parse`, which takes most of the time, turns one into a
`Row`, in any process.
"""

import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from steps.common.rows.files.columnar import read_arrow, read_parquet
from steps.common.rows.files.csv_table import read_csv
from steps.common.rows.files.file_kind import KINDS, check_known, check_start, suffixes
from steps.common.rows.files.json_file import read_json_document, read_json_lines
from steps.common.rows.files.json_payload import PayloadError, decode
from steps.common.rows.files.raw_record import RawRecord
from steps.common.rows.forms import FormError, to_row
from steps.common.rows.row import BadRow, Row, RowPlace
from steps.common.runtime.errors import UserError

READERS: dict[str, Callable[[Path], Iterator[RawRecord]]] = {
    "json lines": read_json_lines,
    "json": read_json_document,
    "csv": read_csv,
    "parquet": read_parquet,
    "arrow": read_arrow,
}
# What reading a damaged file raises: most of Arrow's errors are of these classes too, as are those of codecs and of gzip.
DAMAGE: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, NotImplementedError, MemoryError, zlib.error)


def read_raw(path: Path) -> Iterator[RawRecord]:
    """Read every record of a file; none of them is parsed.

    Raises:
        UserError: the file does not exist, is empty, is not of the kind that its suffix says, or cannot be read on, after
            the records that could be read.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such data file" if not path.exists() else f"{path}: is not a file")
    check_known(str(path))
    last = 0
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if not start:
            raise UserError(f"{path}: is empty; it needs at least two rows")
        check_start(str(path), start)
        for record in READERS[KINDS[suffixes(path.name)[0]]](path):
            yield record
            last = record[0]
    except _damage() as error:
        reason = " ".join((getattr(error, "strerror", "") or str(error)).split()) or type(error).__name__
        where = f"after row {last}" if last else "at all"
        raise UserError(f"{path}: cannot be read {where}: {reason}; make or fetch the file again") from None


def _damage() -> tuple[type[Exception], ...]:
    """Return what reading a damaged file raises, with those errors of Arrow's that have no other class, if it was loaded."""
    arrow = sys.modules.get("pyarrow")
    return (*DAMAGE, arrow.ArrowException) if arrow else DAMAGE


def parse(place: RowPlace, record: RawRecord) -> tuple[RowPlace, Row] | BadRow:
    """Turn a record into a row."""
    if record.reason:
        return BadRow(place, record.reason)
    try:
        row = to_row(decode(record.payload))
    except (PayloadError, FormError) as error:
        return BadRow(place, str(error))
    except RecursionError:
        return BadRow(place, "nested too deeply")
    return place, row


def read_rows(path: Path) -> Iterator[tuple[RowPlace, Row] | BadRow]:
    """Read every row of a file.

    Raises:
        UserError: as `read_raw`.
    """
    name = str(path)
    for record in read_raw(path):
        yield parse(RowPlace(name, record.line), record)
