"""The database of OpenAI's API in a backup: its teams, the hashes of their keys, and the names of their files.

On one machine it is SQLite's file in the folder of the runs, which the API may be writing. In a cluster it is on a volume that
only the API mounts; the API keeps a copy of it on the runs volume, and begins with that if it has no teams. A database
elsewhere, such as in Postgres, is not part of a backup.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from steps.common.runtime.cluster_settings import in_cluster
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.storage import volumes

WAIT_SECONDS = 30.0  # for another process that writes
SAVED_AS = "database.sqlite"
STAYS = "has teams already, and stays as it is"


def saved_database(staging: Path) -> Path | None:
    """Return a file with the database as it is at one moment; None: there is none.

    Args:
        staging: a folder for it.

    Raises:
        UserError: it cannot be read.
    """
    if in_cluster():
        return volumes.api_database_copy() if volumes.api_database_copy().exists() else None
    if not volumes.api_database().exists():
        return None
    copy_database(volumes.api_database(), staging / SAVED_AS)
    return staging / SAVED_AS


def restore_database(saved: Path) -> None:
    """Bring the database back where the API reads it, unless there are teams already.

    Raises:
        UserError: one of the databases cannot be read.
    """
    target = volumes.api_database_copy() if in_cluster() else volumes.api_database()
    target.parent.mkdir(parents=True, exist_ok=True)
    if in_cluster():
        if target.exists():
            say(f"{target.name}: {STAYS}")
        else:
            publish_copy(saved, target)
    elif has_teams(target):
        say(f"{target.name}: {STAYS}")
    else:
        copy_database(saved, target)


def publish_copy(source: Path, target: Path) -> None:
    """Copy a database that nobody is writing, whole or not at all: on a network file system, which SQLite could not lock."""
    partial = target.with_name(f"{target.name}.partial")
    partial.touch(mode=0o600)
    shutil.copyfile(source, partial)
    partial.replace(target)


def copy_database(source: Path, target: Path) -> None:
    """Copy a database, as it is at one moment, over another one or into a new file, while processes may have both open.

    Raises:
        UserError: one of them cannot be read or written.
    """
    target.touch(mode=0o600)
    try:
        with closing(_opened(source)) as old, closing(_opened(target)) as new:
            old.backup(new)
    except sqlite3.Error as error:
        raise UserError(f"{source}: cannot be copied to {target}: {error}") from None


def has_teams(file: Path) -> bool:
    """Return whether a database is in use: it has a team.

    Raises:
        UserError: it cannot be read.
    """
    if not file.exists():
        return False
    try:
        with closing(_opened(file)) as database:
            tables = database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'teams'").fetchone()[0]
            return bool(tables and database.execute("SELECT count(*) FROM teams").fetchone()[0])
    except sqlite3.Error as error:
        raise UserError(f"{file}: cannot be read: {error}") from None


def _opened(file: Path) -> sqlite3.Connection:
    # Not read-only: after a crash, SQLite first has to undo what was begun.
    return sqlite3.connect(f"file:{quote(str(file))}?mode=rw", timeout=WAIT_SECONDS, uri=True)
