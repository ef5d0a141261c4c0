"""Keeps a copy of the API's database on the runs volume, where a backup finds it, and begins with that copy.

The database itself is on a volume that only the API's pod mounts. Postgres has backups of its own. A mark beside the copy says
which database it was made from; a copy without the mark, such as one that was just restored, is never overwritten or deleted.
"""

import logging
import os
import tempfile
from itertools import count
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from steps.backup.api_database import copy_database, has_teams, publish_copy
from steps.common.storage import volumes
from steps.common.storage.disk_errors import disk_errors
from steps.common.storage.files import sha256_of, write_text

LOG = logging.getLogger("fineline.api")


def begin_with_copy(url: str) -> None:
    """Fill a database that has no teams from the copy, if there is one: the namespace was restored from a backup.

    Args:
        url: of the database; nobody has it open.

    Raises:
        UserError: one of the two cannot be read or written.
    """
    own, copy = _file(url), volumes.api_database_copy()
    if own is None:
        return
    with disk_errors(copy, "the API did not start"):
        if not copy.exists() or has_teams(own):
            return
        own.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "copy"
            publish_copy(copy, local)
            copy_database(local, own)
            _mark(own, _digest(local))


def keep_copy(url: str) -> None:
    """Make the copy like the database. A database without teams leaves the copy as it is: it may have just been restored.

    Args:
        url: of the database.

    Raises:
        UserError: it cannot be read.
    """
    own, copy = _file(url), volumes.api_database_copy()
    if own is None:
        _set_aside(copy, "the API's database is in Postgres")
        return
    changed = own.stat().st_mtime_ns
    if (copy.exists() and copy.stat().st_mtime_ns == changed) or not has_teams(own):
        return
    known = _digest(copy)
    if known and known not in _marked(own):
        _set_aside(copy, "it was not made from the API's database, which has teams of its own")
        known = ""
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "copy"
        copy_database(own, local)
        # Both, in case this process ends before the new copy is there.
        _mark(own, known, _digest(local))
        publish_copy(local, copy)
    os.utime(copy, ns=(changed, changed))


def _set_aside(copy: Path, why: str) -> None:
    """Rename a copy, so that no backup takes it for that of the API's present database."""
    names = (f"{copy.stem}.restored{number if number > 1 else ''}{copy.suffix}" for number in count(1))
    aside = next(file for name in names if not (file := copy.with_name(name)).exists())
    try:
        copy.rename(aside)
    except FileNotFoundError:  # there is none, or another replica has renamed it
        return
    LOG.warning("%s is now %s, since %s; delete it if you do not need it", copy, aside.name, why)


def _mark_file() -> Path:
    return volumes.api_database_copy().with_suffix(".source")


def _mark(own: Path, *digests: str) -> None:
    """Write which database the copy with one of these digests was made from."""
    write_text(_mark_file(), "\n".join([str(own.absolute()), *digests]))


def _marked(own: Path) -> list[str]:
    """Return the digests of the copies that were made from a database; empty if the mark names another one."""
    try:
        source, *digests = _mark_file().read_text().splitlines()
    except (FileNotFoundError, ValueError):
        return []
    return digests if source == str(own.absolute()) else []


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file; empty if it does not exist."""
    try:
        return sha256_of(file)
    except FileNotFoundError:
        return ""


def _file(url: str) -> Path | None:
    """Return the file of a database in SQLite; None if it is another one."""
    try:
        where = make_url(url)
    except (ArgumentError, ValueError):  # which `open_database` reports
        return None
    return Path(where.database) if where.get_backend_name() == "sqlite" and where.database else None
