"""How long a vLLM server may take to become ready, and to end: from the bytes of its weights and what was measured."""

import math
from pathlib import Path

from steps.rollout.needs import LEAVE_SECONDS

IMAGE_BYTES, IMAGE_BYTES_A_SECOND = 10e9, 50e6  # vllm/vllm-openai, unpacked on a node that has none of it yet
# Imports, compiling and capturing of graphs, after the weights are read: one to three minutes on a GPU; 150 s measured with
# the CPU build of vLLM 0.32 on two busy cores.
START_SECONDS = 240.0
READ_AT_LEAST = (
    50e6  # bytes a second of a volume, taken where it looks slower: what was measured may be another's busy moment
)
MARGIN = 2.0
BEYOND_SECONDS = 15  # for vLLM to give its GPU back
SAMPLE_BYTES = 256 << 20


def ready_seconds(weight_bytes: float, read_bytes_a_second: float) -> int:
    """Return the longest time from a pod's start to its readiness, twice what is expected of it.

    Args:
        weight_bytes: to read from the volume.
        read_bytes_a_second: of the volume, as measured.
    """
    expected = IMAGE_BYTES / IMAGE_BYTES_A_SECOND + START_SECONDS
    return math.ceil(MARGIN * (expected + weight_bytes / max(read_bytes_a_second, READ_AT_LEAST)))


def grace_seconds(answer_seconds: int) -> int:
    """Return terminationGracePeriodSeconds: the endpoints go, answers under way are finished, the GPU is given back."""
    return LEAVE_SECONDS + answer_seconds + BEYOND_SECONDS


def read_speed(folder: Path) -> float:
    """Measure how many bytes a second come from the largest file of a folder, by its first 256 MB.

    What the kernel has in memory already is dropped before, as far as it lets go of it.
    """
    import os
    import time

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
