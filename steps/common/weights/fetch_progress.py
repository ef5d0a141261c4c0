"""How far the process is that fetches a model: told beside the folder it builds, for those who wait for that."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from steps.common.storage.files import write_text


@dataclass(frozen=True)
class FetchProgress:
    """Bytes that are there, and all."""

    done: int
    total: int
    owner: str  # who fetches


def save(folder: Path, pulling: FetchProgress) -> None:
    """Tell how far the fetching of what will be `folder` is."""
    write_text(_beside(folder), json.dumps(asdict(pulling)) + "\n")


def read(folder: Path) -> FetchProgress | None:
    """Return what was told last; None where nobody has begun."""
    try:
        return FetchProgress(**json.loads(_beside(folder).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def silent_for(folder: Path) -> float:
    """Return for how many seconds nothing was told; by the volume's clock against this machine's."""
    try:
        return max(0.0, time.time() - _beside(folder).stat().st_mtime)
    except FileNotFoundError:
        return 0.0


def remove(folder: Path) -> None:
    """Take it away: it is published."""
    _beside(folder).unlink(missing_ok=True)


def _beside(folder: Path) -> Path:
    return folder.with_name(folder.name + ".progress")
