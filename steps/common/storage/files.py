"""Atomic files and folders: written under a temporary name, then renamed into place. Also hashes and locks."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from steps.common.runtime.redaction import redact

BLOCK = 1 << 20  # bytes


SHA256 = r"[0-9a-f]{64}"  # in hex, as a regular expression


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Return the SHA-256 in hex of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 in hex over the names and hashes of all files below `folder`."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return digest_of({name: sha256_of(folder / name) for name in names})


def write_text(path: Path, text: str) -> None:
    """Write a file atomically, without secrets: a reader sees either the old content or all of the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, redact(text), 0o666)


def write_private_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically, into a file that only this user can read."""
    _replace(path, json.dumps(value, indent=2), 0o600)


def _replace(path: Path, text: str, mode: int) -> None:
    """Write a temporary file with that mode, less the umask, and rename it to `path`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def publish(partial: Path, final: Path, *, private: bool = False) -> None:
    """Make a complete folder's files readable by every user who may enter it, sync them to disk, and rename it to `final`.

    Nobody but its owner may enter a private one.

    safetensors creates its files with mode 0600 (https://github.com/huggingface/safetensors/issues/782), which a server that
    runs as another user could not read.
    """
    for path in partial.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    partial.chmod(0o700 if private else 0o755)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(final)


@contextmanager
def build_folder(final: Path, *, resume: bool = False, private: bool = False) -> Iterator[Path]:
    """Yield a partial folder to build in, and publish it as `final` if the block ends without an error.

    Args:
        final: path of the finished folder.
        resume: continue in the partial folder that an interrupted attempt left, and leave this attempt's for the next one.
        private: let nobody but its owner into the folder.
    """
    partial = final.with_name(final.name + ".partial")
    if not resume:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)
    try:
        yield partial
        publish(partial, final, private=private)
    finally:
        if not resume:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def exclusive_lock(final: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock for writing `final`. The kernel releases it when the holding process ends, for any reason.

    Args:
        final: path that is written under the lock; the lock file lies next to it.
        on_wait: called once a second while another process holds the lock.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(final) + ".lock")
    while True:
        try:
            lock.acquire(timeout=1)
            os.utime(lock.lock_file)  # the time of the last use, see `retention`
            break
        except Timeout:
            on_wait()
    try:
        yield
    finally:
        lock.release()
