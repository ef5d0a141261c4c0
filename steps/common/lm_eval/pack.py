"""A packed task: its definition, its rows, and which of them are asked, in one file that needs no hub.

Whoever packs it has seen it work; what is asked later is the same, on whichever machine.
"""

import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from presets.memory import GIB
from recipes.evaluation import LmEvalTask
from steps.common.runtime.errors import UserError

SUFFIX = ".zip"
NOTE, DEFINITIONS, ROWS = "asked.json", "definitions", "rows"
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in it, so that the same content is the same file
ENCRYPTED = 1  # the bit of a file's flags
# Bytes that one may take unpacked: beside the weights on the disk of what evaluates, and in its memory. Most of lm-eval's own
# take some megabytes.
LARGEST = 2 * GIB


class PackedRequest(BaseModel):
    """What is asked of a model, and which number of each row counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wanted: dict[str, Any]  # the recipe's keys that it was packed by
    rows: dict[str, list[int]]  # of each of lm-eval's tasks: places in its data set
    num_fewshot: int | None
    chat_template: bool
    metric: str
    filter: str  # of the answers, by lm-eval's name
    read_tokens: int  # of all questions and options, about
    written_tokens: int  # of all answers, at the most

    @property
    def count(self) -> int:
        """Rows in all."""
        return sum(len(rows) for rows in self.rows.values())

    @property
    def metric_in_words(self) -> str:
        """The metric's name, with its filter where it is not the only one."""
        return self.metric if self.filter == "none" else f"{self.metric},{self.filter}"


def keys(wanted: LmEvalTask) -> dict[str, Any]:
    """Return what of a recipe's task decides what is packed."""
    return wanted.model_dump(include={"task", "metric", "num_fewshot", "rows", "chat_template"})


def write(folder: Path, asked: PackedRequest, file: Path) -> None:
    """Write a folder of definitions and rows, and what is asked of them, as one file; the same content, the same bytes."""
    with zipfile.ZipFile(file, "w") as out:
        out.writestr(_entry(NOTE), asked.model_dump_json(indent=2))
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
        key: the recipe's, that names it.

    Raises:
        UserError: it is missing, or no packed task, or one that would write elsewhere than where it is unpacked, or too much.
    """
    try:
        with zipfile.ZipFile(file) as packed:
            _check_members(packed.infolist(), f"{key}: {file}")
            asked = PackedRequest.model_validate_json(packed.read(NOTE))
    except FileNotFoundError:
        raise UserError(f"{key}: {file}: no such file") from None
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, OSError, RuntimeError):
        raise UserError(f"{key}: {file}: is no packed task; 'fineline plan' packs one, and says where it is") from None
    if odd := [name for name in asked.rows if not is_file_name(name)]:
        raise UserError(f"{key}: {file}: names a task {odd[0]!r}, which no file can be called; pack it anew")
    return asked


def is_file_name(name: str) -> bool:
    """Tell whether a file can have a task's name, in whichever folder it lies."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def check_size(unpacked_bytes: int, where: str) -> None:
    """Refuse a task that takes too much room.

    Raises:
        UserError: it does.
    """
    if unpacked_bytes > LARGEST:
        raise UserError(
            f"{where}: takes {unpacked_bytes / GIB:.1f} GiB unpacked, and {LARGEST / GIB:g} are allowed; take a task with a "
            "smaller data set"
        )


def _check_members(members: list[zipfile.ZipInfo], where: str) -> None:
    for one in members:
        if one.filename.startswith("/") or "\\" in one.orig_filename or ".." in one.filename.split("/"):
            raise UserError(f"{where}: has {one.orig_filename!r}, outside of where it is unpacked; pack it anew")
        if one.flag_bits & ENCRYPTED or one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(f"{where}: {one.filename} is encrypted, or compressed by other than deflate; pack it anew")
    check_size(sum(one.file_size for one in members), where)


@contextmanager
def unpacked(file: Path) -> Iterator[Path]:
    """Give a folder with the content of a packed task, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="lm-eval-") as folder, zipfile.ZipFile(file) as packed:
        packed.extractall(folder)
        yield Path(folder)
