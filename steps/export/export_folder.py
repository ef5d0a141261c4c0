"""The folder of a version's exports: what lies there, of which adapter, with which hashes.

exports/NAME/VERSION/merged/                    a transformers model
exports/NAME/VERSION/NAME-vVERSION-Q8_0.gguf    a GGUF file
exports/NAME/VERSION/export.json                of which adapter they are, and their hashes
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ValidationError

from steps.common.storage.files import folder_digest, sha256_of, write_text

RECORD = "export.json"
FORMAT = 1  # of what is written here; raised when the same model would be written otherwise


class Written(BaseModel):
    """A file, or a folder, that is complete."""

    path: str  # from the folder of the exports
    sha256: str  # of a file; of a folder, over its files' names and hashes
    bytes: int


class ExportSource(BaseModel):
    """What the exports of a folder were made of."""

    adapter_sha256: str
    base_digest: str
    format: int = FORMAT


class ExportRecord(BaseModel):
    """What a folder of exports says of itself."""

    source: ExportSource
    written: dict[str, Written] = {}  # by what it is: merged, or a quantisation


def begin(folder: Path, source: ExportSource) -> ExportRecord:
    """Return what is complete of a source's exports; those of another one, from a registry that is gone, are deleted."""
    try:
        record = ExportRecord.model_validate_json((folder / RECORD).read_text())
    except (FileNotFoundError, ValidationError):
        record = None
    if record is None or record.source != source:
        shutil.rmtree(folder, ignore_errors=True)
        record = ExportRecord(source=source)
    there = {what: one for what, one in record.written.items() if _bytes(folder / one.path) == one.bytes}
    folder.mkdir(parents=True, exist_ok=True)
    return ExportRecord(source=source, written=there)


def keep(folder: Path, record: ExportRecord, what: str, path: Path) -> ExportRecord:
    """Note that `path` is complete, and return the folder's record with it."""
    sha256 = folder_digest(path) if path.is_dir() else sha256_of(path)
    one = Written(path=path.relative_to(folder).as_posix(), sha256=sha256, bytes=_bytes(path))
    record = record.model_copy(update={"written": {**record.written, what: one}})
    write_text(folder / RECORD, record.model_dump_json(indent=2) + "\n")
    return record


def put_file(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` write a file beside `target`, and rename it when it is complete and on disk."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        write(partial)
        partial.chmod(0o644)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def put_names(source: Path, target: Path) -> None:
    """Give the files of a folder, which nobody changes, other names in another one; copy where the volume knows none."""
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copyfile(file, target / file.name)


def _bytes(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else -1
