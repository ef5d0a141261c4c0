"""How fast the volume is that a server reads its weights from."""

import os
import time
from pathlib import Path

SAMPLE_BYTES = 256 << 20


def read_speed(folder: Path) -> float:
    """Measure how many bytes a second come from the largest file of a folder, by its first 256 MB.

    What the kernel has in memory already is dropped before, as far as it lets go of it.
    """
    file = max((path for path in folder.iterdir() if path.is_file()), key=lambda path: path.stat().st_size)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        started, done = time.monotonic(), 0
        while done < SAMPLE_BYTES and (block := os.read(descriptor, 1 << 20)):
            done += len(block)
        return done / max(time.monotonic() - started, 1e-6)
    finally:
        os.close(descriptor)
