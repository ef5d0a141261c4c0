"""A file that arrives over a connection: published on the runs volume once its size and its hash are verified."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from steps.common.port_forward.parts import PART
from steps.common.runtime.errors import UserError


def write_incoming(path: Path, sha256: str, size: int, source: BinaryIO, acknowledge: Callable[[int], None]) -> None:
    """Write the file beside its place, and rename it into it.

    Args:
        path: where to.
        sha256: of the whole file, in hex.
        size: in bytes.
        source: what arrives.
        acknowledge: called with the bytes so far after each part, except the last.

    Raises:
        UserError: the size or the hash of what arrived is not the announced one; nothing of it is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    digest, missing = hashlib.sha256(), size
    try:
        with partial.open("wb") as out:
            while missing and (part := source.read(min(PART, missing))):
                out.write(part)
                digest.update(part)
                missing -= len(part)
                if missing:
                    acknowledge(size - missing)
            out.flush()
            os.fsync(out.fileno())
        if missing:
            raise UserError(f"{path.name}: the connection ended with {missing} of {size} bytes missing; send it again")
        if digest.hexdigest() != sha256:
            raise UserError(f"{path.name}: it changed while it was sent; send it again")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
