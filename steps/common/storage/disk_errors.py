"""A disk that is full or refuses, in one line."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steps.common.runtime.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors(place: Path, kept: str) -> Iterator[None]:
    """Raise what the disk refuses as one line. A broken connection is not a disk error.

    Args:
        place: where the block writes, for messages.
        kept: what stays of it, such as "nothing of it is kept".

    Raises:
        UserError: the disk is full, or a file cannot be read or written.
    """
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        if error.errno in FULL:
            raise UserError(f"{place}: no space left on the disk; free some space and run it again; {kept}") from error
        if error.errno is None or error.filename is None:
            raise
        raise UserError(f"{error.filename}: {error.strerror}; {kept}") from error
