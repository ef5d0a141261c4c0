"""The progress of a fetch, in a file beside the folder that it fills, for processes that wait for the model."""

import time
from pathlib import Path

from steps.common.storage.files import write_text
from steps.common.storage.record import NewerRecordError, Record


class FetchProgress(Record):
    """The bytes that have been fetched, the total, and the process that fetches."""

    done: int
    total: int
    owner: str  # name of the process


def save(folder: Path, pulling: FetchProgress) -> None:
    """Save the progress of the fetch into what will be `folder`."""
    write_text(_beside(folder), pulling.model_dump_json() + "\n")


def read(folder: Path) -> FetchProgress | None:
    """Return the progress that was saved last; None if there is none."""
    try:
        return FetchProgress.read(_beside(folder).read_text(), folder)
    except (FileNotFoundError, ValueError, NewerRecordError):
        return None


def silent_for(folder: Path) -> float:
    """Return the seconds since progress was last saved, by the volume's clock compared with this machine's; 0 if never."""
    try:
        return max(0.0, time.time() - _beside(folder).stat().st_mtime)
    except FileNotFoundError:
        return 0.0


def remove(folder: Path) -> None:
    """Delete the file, once the folder is published."""
    _beside(folder).unlink(missing_ok=True)


def _beside(folder: Path) -> Path:
    return folder.with_name(folder.name + ".progress")
