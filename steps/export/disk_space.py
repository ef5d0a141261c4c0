"""Checks the free space on the runs volume before the first byte is written."""

import shutil
from pathlib import Path

from steps.common.runtime.errors import UserError

MB = 1_000_000


def check_disk_space(folder: Path, needed: int, what: str) -> None:
    """Refuse to write what does not fit.

    Args:
        folder: on the volume.
        needed: bytes.
        what: what needs them, for the message.

    Raises:
        UserError: too little is free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {what} needs {needed / MB:.0f} MB, but only {free / MB:.0f} MB are free; "
            "free some space and run it again: complete files are kept"
        )
