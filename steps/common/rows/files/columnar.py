"""Reads Parquet and Arrow files. A row whose cells cannot be read is a bad row; the rest of the file is read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from steps.common.rows.files.file_content import decompressed
from steps.common.rows.files.file_kind import suffixes
from steps.common.rows.files.json_payload import encode
from steps.common.rows.files.raw_record import RawRecord
from steps.common.runtime.errors import UserError, first_line

AT_ONCE = 1000  # rows
# Raised by a cell: text that is not UTF-8, a time out of range, a map with a key twice or with keys that JSON does not have.
UNREADABLE = (ValueError, OverflowError, KeyError, TypeError)


def read_parquet(path: Path) -> Iterator[RawRecord]:
    """Read the rows of a Parquet file.

    Raises:
        UserError: the file is not Parquet, or has two columns of one name.
    """
    with _source(path, "OSFile") as content:
        file = _opened(path, content)
        _check_names(path, file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(AT_ONCE):
            yield from _records(batch, number)
            number += batch.num_rows


def read_arrow(path: Path) -> Iterator[RawRecord]:
    """Read the rows of an Arrow file: a file or a stream of record batches, as `datasets` writes it.

    Raises:
        UserError: the file is not Arrow, or has two columns of one name.
    """
    number = 0
    for batch in batches(path):
        if not number:
            _check_names(path, batch.schema.names)
        _check_layout(batch)
        for start in range(0, batch.num_rows, AT_ONCE):
            part = batch.slice(start, AT_ONCE)
            yield from _records(part, number)
            number += part.num_rows


def batches(path: Path) -> Iterator[Any]:
    """Yield the record batches of an Arrow file, which are mapped into memory and not read.

    Raises:
        UserError: the file is not Arrow.
    """
    import pyarrow

    with _source(path, "memory_map") as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        try:
            reader = pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{path}: not an Arrow file: {first_line(error)}") from None
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader


def parquet_rows(path: Path) -> int:
    """Return the number of rows that a Parquet file has."""
    with _source(path, "OSFile") as content:
        return int(_opened(path, content).metadata.num_rows)


def _source(path: Path, opened_as: Literal["OSFile", "memory_map"]) -> Any:
    import pyarrow

    packed = suffixes(path.name)[1]
    return pyarrow.PythonFile(decompressed(path)) if packed else getattr(pyarrow, opened_as)(str(path))


def _opened(path: Path, content: Any) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(content)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file: {first_line(error)}") from None


def _check_names(path: Path, names: list[str]) -> None:
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UserError(f"{path}: has two columns {twice!r}; rename one of them")


def _check_layout(batch: Any) -> None:
    """Check lengths and offsets, which Arrow does not do on reading: a wrong one ends the process.

    Raises:
        pyarrow.ArrowInvalid: the batch is corrupt.
    """
    batch.validate()
    for column in batch.columns:
        column.view(_with_bytes(column.type)).validate(full=True)


def _with_bytes(kind: Any) -> Any:
    """Return a type with bytes for each text in it, since text that is not UTF-8 is for the row to say."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_string(kind):
        return pa.binary()
    if types.is_large_string(kind):
        return pa.large_binary()
    if types.is_struct(kind):
        return pa.struct([field.with_type(_with_bytes(field.type)) for field in kind])
    if types.is_list(kind) or types.is_large_list(kind):
        make = pa.list_ if types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_with_bytes(kind.value_type)))
    return kind


def _records(batch: Any, before: int) -> list[RawRecord]:
    try:
        rows = batch.to_pylist(maps_as_pydicts="strict")
        return [RawRecord(number, encode(columns)) for number, columns in enumerate(rows, before + 1)]
    except UNREADABLE:
        return [_one(batch.slice(number, 1), before + number + 1) for number in range(batch.num_rows)]


def _one(batch: Any, number: int) -> RawRecord:
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            columns[name] = column[0].as_py(maps_as_pydicts="strict")
            encode(columns[name])
        except UnicodeDecodeError:
            return RawRecord(number, b"", f"the text in {name!r} is not UTF-8")
        except UNREADABLE as error:
            return RawRecord(number, b"", f"{name!r} cannot be read: {' '.join(str(error).split())}")
    return RawRecord(number, encode(columns))
