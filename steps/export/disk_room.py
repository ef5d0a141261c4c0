"""Room on the runs volume, looked for before the first byte."""

import shutil
from pathlib import Path

from steps.common.runtime.errors import UserError

MB = 1_000_000


def check_room(place: Path, need: int, what: str) -> None:
    """Refuse what will not fit.

    Args:
        place: folder on the volume.
        need: bytes.
        what: takes them, for the message.

    Raises:
        UserError: with both numbers, and what to do.
    """
    free = shutil.disk_usage(place).free
    if need > free:
        raise UserError(
            f"{place}: {what} takes {need / MB:.0f} MB and {free / MB:.0f} MB are free; "
            "free some and run it again: what is complete is kept"
        )
