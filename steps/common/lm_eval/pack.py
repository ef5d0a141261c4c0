"""The file of a packed task: its definition, its rows, and which rows are asked; it needs no hub.

A task is tried before it is packed, and the file asks the same on every machine.
"""

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from presets.memory import GIB
from recipes.evaluation import LmEvalTask
from steps.common.runtime.errors import UserError
from steps.common.storage.record import Record

SUFFIX = ".zip"
NOTE, DEFINITIONS, ROWS = "asked.json", "definitions", "rows"
EPOCH = (1980, 1, 1, 0, 0, 0)  # time of each file in it, so that the same content makes the same bytes
ENCRYPTED = 1  # bit of a file's flags
# Bytes unpacked. They lie beside the weights on the evaluating machine's disk, and in its memory. Most of lm-eval's own tasks
# take a few megabytes.
LARGEST = 2 * GIB


def _is_first(number: int) -> bool:
    return number == 1


class PackedRequest(Record):
    """What a packed task asks of a model, and which of lm-eval's metrics counts. Stored in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    # Not written while it is 1: the file's hash decides whether a model is trained again.
    schema_version: int = Field(default=1, exclude_if=_is_first)
    packed_by: dict[str, Any] = Field(alias="wanted")  # the recipe's keys that decided what was packed
    rows: dict[str, list[int]]  # for each of lm-eval's tasks: row numbers in its data set
    num_fewshot: int | None
    chat_template: bool
    metric: str
    filter: str  # of the answers, by lm-eval's name
    read_tokens: int  # estimate for all questions and options
    written_tokens: int  # upper bound for all answers

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(len(rows) for rows in self.rows.values())

    @property
    def metric_in_words(self) -> str:
        """The metric's name, with its filter unless it is the only one."""
        return self.metric if self.filter == "none" else f"{self.metric},{self.filter}"


PACKING_KEYS = {"task", "metric", "num_fewshot", "rows", "chat_template"}


def packing_keys(task: LmEvalTask) -> dict[str, Any]:
    """Return the keys of a recipe's task that decide what is packed."""
    return task.model_dump(include=PACKING_KEYS)


def with_defaults(packed_by: dict[str, Any]) -> dict[str, Any]:
    """Return the keys that decided what was packed, with the defaults of those that the packing release did not have."""
    known = LmEvalTask.model_fields
    return {name: packed_by.get(name, known[name].default) for name in PACKING_KEYS}


def write(folder: Path, request: PackedRequest, file: Path) -> None:
    """Write a folder of definitions and rows, and what is asked, as one file; the same content makes the same bytes."""
    with zipfile.ZipFile(file, "w") as out:
        out.writestr(_entry(NOTE), request.model_dump_json(indent=2))
        for part in sorted(path for path in folder.rglob("*") if path.is_file()):
            out.writestr(_entry(part.relative_to(folder).as_posix()), part.read_bytes())


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def read(file: Path, key: str) -> PackedRequest:
    """Return what a packed task asks.

    Args:
        file: the packed task.
        key: the recipe's key that names it, for messages.

    Raises:
        UserError: the file is missing or no packed task, would be unpacked outside its folder, or is too large.
    """
    try:
        with zipfile.ZipFile(file) as packed:
            _check_members(packed.infolist(), f"{key}: {file}")
            request = PackedRequest.read(packed.read(NOTE), f"{key}: {file}")
    except FileNotFoundError:
        raise UserError(f"{key}: {file}: no such file") from None
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, OSError, RuntimeError):
        raise UserError(f"{key}: {file}: not a packed task; 'fineline plan' packs one and prints its path") from None
    if invalid := [name for name in request.rows if not is_file_name(name)]:
        raise UserError(
            f"{key}: {file}: task name {invalid[0]!r} is not a valid file name; rename the task and pack it again"
        )
    return request


def is_file_name(name: str) -> bool:
    """Return whether a task's name can be the name of a file in any folder."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def check_size(unpacked_bytes: int, where: str) -> None:
    """Refuse a task that is too large.

    Raises:
        UserError: it is.
    """
    if unpacked_bytes > LARGEST:
        raise UserError(
            f"{where}: {unpacked_bytes / GIB:.1f} GiB unpacked, more than the limit of {LARGEST / GIB:g} GiB; choose a task "
            "with a smaller data set"
        )


def _check_members(members: list[zipfile.ZipInfo], where: str) -> None:
    for member in members:
        name = member.orig_filename
        if member.filename.startswith("/") or "\\" in name or ".." in member.filename.split("/"):
            raise UserError(f"{where}: {name!r} would be unpacked outside its folder; pack the task again")
        if member.flag_bits & ENCRYPTED or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(
                f"{where}: {member.filename} is encrypted or not compressed with deflate; pack the task again"
            )
    check_size(sum(member.file_size for member in members), where)


@contextmanager
def unpacked(file: Path) -> Iterator[Path]:
    """Unpack a task into a temporary folder that exists for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="lm-eval-") as folder, zipfile.ZipFile(file) as packed:
        packed.extractall(folder)
        yield Path(folder)
