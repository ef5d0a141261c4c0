"""Files that are there whole or not at all: hashed, written beside, renamed into place, readable by every user."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Return the sha256 in hex of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def folder_digest(folder: Path) -> str:
    """Return the sha256 in hex over the names and hashes of all files below `folder`."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return digest_of({name: sha256_of(folder / name) for name in names})


def write_text(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, text, 0o666)


def write_private_json(path: Path, value: Any) -> None:
    """Write a value as JSON, likewise whole, for this user alone to read."""
    _replace(path, json.dumps(value, indent=2), 0o600)


def _replace(path: Path, text: str, mode: int) -> None:
    """Write a file of that mode, less the user's mask, beside `path` and rename it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def publish(partial: Path, final: Path) -> None:
    """Rename the complete folder `partial` to `final`, its files readable by every user and on disk.

    safetensors writes its files 0600 (https://github.com/huggingface/safetensors/issues/782); a server with another
    user's id could not read them.
    """
    for path in partial.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    partial.chmod(0o755)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(final)


@contextmanager
def build_folder(final: Path, *, resume: bool = False) -> Iterator[Path]:
    """Give a folder beside `final` to build in, and publish it as `final` when the block ends well.

    Args:
        final: where the folder will be.
        resume: go on in what an interrupted earlier attempt left, and leave this attempt's for the next one.
    """
    partial = final.with_name(final.name + ".partial")
    if not resume:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        publish(partial, final)
    finally:
        if not resume:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def exclusive_lock(final: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of `final`; the kernel drops it with the process that holds it, however that ends.

    Args:
        final: what is written under the lock; the lock file lies beside it.
        on_wait: called once a second while another process holds the lock.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(final) + ".lock")
    while True:
        try:
            lock.acquire(timeout=1)
            break
        except Timeout:
            on_wait()
    try:
        yield
    finally:
        lock.release()
