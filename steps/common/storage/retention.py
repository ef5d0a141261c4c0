"""When a folder on a volume was last used, whether a process uses it now, and its deletion: whole, or not at all.

What `exclusive_lock` guards has a file `FOLDER.lock`. Its modification time is the time of the last use.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

LEAVING = ".leaving"  # end of the name of a folder that is being deleted
PARTIAL = ".partial"  # end of the name of a folder that is being built
DISK_BLOCK = 512  # bytes; the unit of st_blocks


def guarded(folder: Path) -> Path:
    """Return the path that is locked to build a folder: a partial folder has the lock of the finished one."""
    return folder.with_name(folder.name.removesuffix(PARTIAL))


def last_used(folder: Path) -> float:
    """Return when a folder was last built or used, in seconds since 1970; 0 if it is gone."""
    lock = guarded(folder).with_name(guarded(folder).name + ".lock")
    times = [0.0]
    for path in (folder, lock):
        with contextlib.suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)


@contextlib.contextmanager
def lock_if_free(folder: Path) -> Iterator[bool]:
    """Hold a folder's lock for the block if no process holds it, and yield whether it does. It does not count as a use."""
    lock = guarded(folder).with_name(guarded(folder).name + ".lock")
    used, had_lock = last_used(folder), lock.exists()
    file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    if not had_lock:  # as beside a version that 0.1.0 restored
        os.utime(file, (used, used))
    try:
        yield _take(file)
    finally:
        os.close(file)


def is_locked(lock: Path) -> bool:
    """Return whether a process holds a lock file; if there is no such file, none does."""
    try:
        with lock.open("rb") as file:
            return not _take(file.fileno())
    except FileNotFoundError:
        return False


def _take(file: int) -> bool:
    """Take the lock of an open file if it is free, until the file is closed; return whether it was."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def freed_bytes(path: Path) -> int:
    """Return the bytes of disk that deleting a file or folder frees: files that have another hard link free nothing."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file() and not one.is_symlink()]
    total = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            found = file.stat()
            total += found.st_blocks * DISK_BLOCK if found.st_nlink == 1 else 0
    return total


def delete_whole(folder: Path) -> None:
    """Rename a folder out of the way, then delete it: whoever opens it finds all of it, or none."""
    leaving = folder.with_name(f".{folder.name}{LEAVING}")
    shutil.rmtree(leaving, ignore_errors=True)
    folder.rename(leaving)
    shutil.rmtree(leaving)
