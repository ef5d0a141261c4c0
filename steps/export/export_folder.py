"""The folder of a version's exports, and its record of what is complete.

exports/NAME/VERSION/merged/                    a transformers model
exports/NAME/VERSION/NAME-vVERSION-Q8_0.gguf    a GGUF file
exports/NAME/VERSION/export.json                which adapter they were made of, and their hashes
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from steps.common.storage.files import folder_digest, sha256_of, write_text
from steps.common.storage.record import Record

RECORD = "export.json"
FORMAT = 1  # of the exports; raise it when the same model would be written differently


class ExportedFile(BaseModel):
    """A complete file, or a complete folder."""

    path: str  # relative to the folder of the exports
    sha256: str  # of a file; for a folder, over the names and hashes of its files
    bytes: int


class ExportSource(BaseModel):
    """What a folder's exports were made of."""

    adapter_sha256: str
    base_digest: str
    format: int = FORMAT


class ExportRecord(Record):
    """The content of export.json."""

    source: ExportSource
    written: dict[str, ExportedFile] = {}  # by form: merged, or a quantisation


def open_export_folder(folder: Path, source: ExportSource) -> ExportRecord:
    """Return which of a source's exports are complete; exports of another source, from a lost registry, are deleted."""
    try:
        record = ExportRecord.read((folder / RECORD).read_text(), folder / RECORD)
    except (FileNotFoundError, ValueError):
        record = None
    if record is None or record.source != source:
        shutil.rmtree(folder, ignore_errors=True)
        record = ExportRecord(source=source)
    complete = {form: file for form, file in record.written.items() if _bytes(folder / file.path) == file.bytes}
    folder.mkdir(parents=True, exist_ok=True)
    return ExportRecord(source=source, written=complete)


def record_export(folder: Path, record: ExportRecord, form: str, path: Path) -> ExportRecord:
    """Record that the export at `path` is complete, and return the new record."""
    sha256 = folder_digest(path) if path.is_dir() else sha256_of(path)
    exported = ExportedFile(path=path.relative_to(folder).as_posix(), sha256=sha256, bytes=_bytes(path))
    record = record.model_copy(update={"written": {**record.written, form: exported}})
    write_text(folder / RECORD, record.model_dump_json(indent=2) + "\n")
    return record


def write_whole_file(target: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with the path of a temporary file, and rename the file to `target` once it is complete and on disk."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        write(partial)
        partial.chmod(0o644)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def link_files(source: Path, target: Path) -> None:
    """Hard-link the files of a folder, which nothing changes, into another; copy them on a volume without hard links."""
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copyfile(file, target / file.name)


def _bytes(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else -1
