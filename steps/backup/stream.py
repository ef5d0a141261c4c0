"""A backup as a stream: packed while it is sent, and unpacked into a folder that has all of it or is dropped."""

import shutil
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol

from steps.backup.backup_target import BLOCK, StreamTarget
from steps.backup.saved import FILE, Backup, drop_unlisted, read_backup, read_list
from steps.backup.steady_read import read_steadily
from steps.common.runtime.errors import UserError


class Arriving(Protocol):
    """What a backup is read from."""

    def read(self, size: int) -> bytes:
        """Return at most so many bytes; none at the end."""

    def finish(self) -> None:
        """Read the rest, and check that all of it is what was sent."""


def pack(folder: Path, backup: Backup, stream: object) -> None:
    """Write a backup of this machine to a stream, its list of contents first."""
    with StreamTarget(stream) as target:
        for name in (FILE, *backup.files):
            read_steadily(folder / name, partial(target.add, name))


def unpack(stream: Arriving, folder: Path, check: Callable[[Backup], None] = lambda _: None) -> Backup:
    """Write what arrives into an empty folder, and return the backup once all of it is there and verified.

    Args:
        stream: what arrives.
        folder: where to.
        check: called with the list of contents as soon as that is there.

    Raises:
        UserError: what arrives is not a backup, would lie outside the folder, or is not whole.
        OSError: the connection is broken, or the disk is full.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK) as archive:  # type: ignore[call-overload]
            for member in archive:
                _write(archive, member, folder)
                if member.name == FILE:
                    check(read_list(folder))
    except tarfile.TarError as error:
        raise UserError(f"what arrived is not a backup: {error}; nothing of it is kept") from None
    stream.finish()
    backup = read_backup(folder)
    drop_unlisted(folder, backup)
    return backup


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write a plain file. The filters of tarfile would see to the rest; Python 3.11.2, which is Debian's, has none."""
    name, content = PurePosixPath(member.name), archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise UserError(f"{member.name!r} is not a plain file; nothing of the backup is kept")
    if name.is_absolute() or ".." in name.parts:
        raise UserError(f"{member.name!r} would be written outside of the backup; nothing of it is kept")
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        shutil.copyfileobj(content, out, BLOCK)
