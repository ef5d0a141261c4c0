"""Reads rows from JSONL, CSV and Parquet files, each with its place. A bad row is returned, not raised."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steps.common.rows.forms import FormError, to_row
from steps.common.rows.row import BadRow, Row, RowPlace
from steps.common.runtime.errors import UserError

KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}


def read_rows(path: Path) -> Iterator[tuple[RowPlace, Row] | BadRow]:
    """Read every row of a file.

    Raises:
        UserError: the file does not exist, is empty, or is not of the kind that its suffix says.
    """
    kind = KINDS.get(path.suffix.lower())
    if not path.is_file():
        raise UserError(f"{path}: no such data file" if not path.exists() else f"{path}: is not a file")
    if kind is None:
        raise UserError(f"{path}: unknown kind of data file {path.suffix!r}; known are {', '.join(KINDS)}")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty; it needs at least two rows")
    found = 0
    for place, columns in {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}[kind](path):
        found += 1
        if isinstance(columns, str):
            yield BadRow(place, columns)
            continue
        try:
            yield place, to_row(columns)
        except FormError as error:
            yield BadRow(place, str(error))
    if not found:
        raise UserError(f"{path}: has no rows; it needs at least two")


def _jsonl(path: Path) -> Iterator[tuple[RowPlace, dict[str, Any] | str]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            place = RowPlace(str(path), number)
            if not raw.strip():
                continue
            try:
                value = json.loads(raw.rstrip(b"\r\n").decode("utf-8-sig"))
            except UnicodeDecodeError:
                yield place, "not text in UTF-8"
            except json.JSONDecodeError as error:
                if number == 1 and raw.strip() == b"[":
                    raise UserError(f"{path}: is one JSON array; write one object per line: jq -c '.[]' FILE") from None
                yield place, f"not JSON at column {error.colno}: {error.msg}"
            except RecursionError:
                yield place, "nested too deeply"
            else:
                yield place, value if isinstance(value, dict) else "not an object"


def _csv(path: Path) -> Iterator[tuple[RowPlace, dict[str, Any] | str]]:
    csv.field_size_limit(1 << 30)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for columns in reader:
                place = RowPlace(str(path), reader.line_num)
                if None in columns:
                    yield place, f"has more cells than the {len(reader.fieldnames or [])} columns of the first line"
                else:
                    yield place, dict(columns)
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8; save it as CSV UTF-8") from None


def _parquet(path: Path) -> Iterator[tuple[RowPlace, dict[str, Any] | str]]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from None
    number = 0
    for batch in file.iter_batches(batch_size=1000):
        for columns in batch.to_pylist():
            number += 1
            yield RowPlace(str(path), number), columns
