"""Takes a file from standard input and publishes it when its size and hash are right.

    python -m steps.common.storage.receive PATH SHA256 BYTES

It says ALREADY_PRESENT at once where the file is there already, and RECEIVED when it has been written.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import BinaryIO

RECEIVED, ALREADY_PRESENT = "fineline: received", "fineline: there already"
BLOCK = 1 << 20


def receive(path: Path, sha256: str, size: int, source: BinaryIO) -> str:
    """Write the file and return RECEIVED, or ALREADY_PRESENT without reading.

    Raises:
        ValueError: what came is not what was announced; nothing is left of it.
    """
    if path.exists():
        return ALREADY_PRESENT
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    digest, left = hashlib.sha256(), size
    try:
        with beside.open("wb") as out:
            while left and (part := source.read(min(BLOCK, left))):
                out.write(part)
                digest.update(part)
                left -= len(part)
            out.flush()
            os.fsync(out.fileno())
        if left or digest.hexdigest() != sha256:
            raise ValueError(f"{path.name}: {left} bytes are missing" if left else f"{path.name}: its hash is wrong")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return RECEIVED


if __name__ == "__main__":
    try:
        print(receive(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.stdin.buffer), flush=True)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
