"""Measures the read speed of the volume that holds the weights."""

import os
import time
from pathlib import Path

SAMPLE_BYTES = 256 << 20


def read_speed(folder: Path) -> float:
    """Return the bytes a second at which the first 256 MB of a folder's largest file can be read.

    The kernel is asked to drop the file from its page cache first.
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
