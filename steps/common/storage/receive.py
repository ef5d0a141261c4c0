"""Receives a file on standard input, and publishes it once its size and hash are verified.

    python -m steps.common.storage.receive PATH SHA256 BYTES

Prints ALREADY_PRESENT, without reading, if the file exists; RECEIVED once it is written.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import BinaryIO

RECEIVED, ALREADY_PRESENT = "fineline: received", "fineline: there already"
BLOCK = 1 << 20  # bytes


def receive(path: Path, sha256: str, size: int, source: BinaryIO) -> str:
    """Write the file and return RECEIVED, or return ALREADY_PRESENT without reading.

    Raises:
        ValueError: the size or the hash of what arrived is not the announced one; nothing of it is kept.
    """
    if path.exists():
        return ALREADY_PRESENT
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    digest, missing = hashlib.sha256(), size
    try:
        with partial.open("wb") as out:
            while missing and (block := source.read(min(BLOCK, missing))):
                out.write(block)
                digest.update(block)
                missing -= len(block)
            out.flush()
            os.fsync(out.fileno())
        if missing:
            raise ValueError(f"{path.name}: {missing} bytes are missing")
        if digest.hexdigest() != sha256:
            raise ValueError(f"{path.name}: its hash is wrong")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return RECEIVED


if __name__ == "__main__":
    try:
        print(receive(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.stdin.buffer), flush=True)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
