"""Keeps a copy of the API's database on the runs volume, where a backup finds it, and begins with that copy.

The database itself is on a volume that only the API's pod mounts. Postgres has backups of its own.
"""

import os
import tempfile
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from steps.backup.api_database import copy_database, has_teams, publish_copy
from steps.common.storage import volumes


def begin_with_copy(url: str) -> None:
    """Fill a database that has no teams from the copy, if there is one: the namespace was restored from a backup.

    Args:
        url: of the database; nobody has it open.

    Raises:
        UserError: one of the two cannot be read.
    """
    own, copy = _file(url), volumes.api_database_copy()
    if own is None or not copy.exists() or has_teams(own):
        return
    own.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "copy"
        publish_copy(copy, local)
        copy_database(local, own)


def keep_copy(url: str) -> None:
    """Make the copy like the database. A database without teams leaves the copy as it is: it may have just been restored.

    Args:
        url: of the database.

    Raises:
        UserError: it cannot be read.
    """
    own, copy = _file(url), volumes.api_database_copy()
    if own is None:
        copy.unlink(missing_ok=True)  # of the time before Postgres
        return
    changed = own.stat().st_mtime_ns
    if (copy.exists() and copy.stat().st_mtime_ns == changed) or not has_teams(own):
        return
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "copy"
        copy_database(own, local)
        publish_copy(local, copy)
    os.utime(copy, ns=(changed, changed))


def _file(url: str) -> Path | None:
    """Return the file of a database in SQLite; None if it is another one."""
    try:
        where = make_url(url)
    except (ArgumentError, ValueError):  # which `open_database` reports
        return None
    return Path(where.database) if where.get_backend_name() == "sqlite" and where.database else None
