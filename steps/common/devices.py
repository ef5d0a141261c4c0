"""What this machine computes with, found without torch."""

import os
import shutil
import subprocess
from pathlib import Path

from steps.common.resolved import Device


def local_device() -> Device:
    """Return this machine's GPUs where NVIDIA's driver lists any, else its processor.

    Memory is what a container's limit leaves, where there is one; cores are those that this process may use.
    """
    return _gpus() or Device(
        kind="cpu", name=_processor(), count=len(os.sched_getaffinity(0)), memory_bytes=memory_limit()
    )


def memory_limit() -> int:
    """Return the bytes of memory that this process may use: the machine's, or its control group's limit."""
    import psutil

    total = int(psutil.virtual_memory().total)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def memory_available() -> int:
    """Return the bytes of memory free for a new process."""
    import psutil

    return min(int(psutil.virtual_memory().available), memory_limit())


def _gpus() -> Device | None:
    tool = shutil.which("nvidia-smi")
    if not tool:
        return None
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    rows = [line.rsplit(",", 1) for line in answer.stdout.splitlines() if "," in line]
    if answer.returncode or not rows:
        return None
    return Device(kind="cuda", name=rows[0][0].strip(), count=len(rows), memory_bytes=int(rows[0][1]) << 20)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "processor")
