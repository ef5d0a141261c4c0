"""This machine's processor, GPUs and memory, detected without torch."""

import math
import os
import shutil
import subprocess
from pathlib import Path

from steps.common.handover.resolved import Device

CPU_LIMIT = Path(
    "/sys/fs/cgroup/cpu.max"
)  # microseconds of processor time in each period: "200000 100000", or "max 100000"


def local_device() -> Device:
    """Return this machine's GPUs if NVIDIA's driver lists any, else its processor.

    A processor's cores and memory are those that this process may use, which a container may limit.
    """
    return _gpus() or Device(kind="cpu", name=_processor(), count=cores(), memory_bytes=memory_limit())


def cores() -> int:
    """Return how many cores this process may use, which its control group may limit."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = CPU_LIMIT.read_text().split()
    except (OSError, ValueError):
        return allowed
    return min(allowed, max(1, math.ceil(int(quota) / int(period)))) if quota.isdigit() else allowed


def compute_dtype(kind: str) -> str:
    """Return the name of the torch dtype in which matrix products are fast: "bfloat16" or "float32".

    On a CPU, oneDNN multiplies bf16 matrices if the processor has AVX-512 or ARM's bf16 extension, as
    `torch.ops.mkldnn._is_mkldnn_bf16_supported()` reports. Without them torch falls back to a plain loop: 1.1 GFLOP/s,
    against 36 in fp32, on two cores of an AMD EPYC with AVX2. The setting `ONEDNN_MAX_CPU_ISA` can restrict oneDNN to AVX2
    (https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html).

    Args:
        kind: "cpu" or "cuda".
    """
    if kind == "cuda":
        return "bfloat16"
    restriction = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    without_avx512 = restriction in ("SSE41", "AVX") or restriction.startswith("AVX2")
    return "bfloat16" if not without_avx512 and has_fast_bf16(_processor_flags()) else "float32"


def has_fast_bf16(flags: set[str]) -> bool:
    """Return whether a processor multiplies bf16 matrices fast, from its flags as Linux lists them."""
    return {"avx512bw", "avx512vl", "avx512dq"} <= flags or {"asimd", "bf16"} <= flags


def memory_limit() -> int:
    """Return how many bytes of memory this process may use: all of the machine's, or its control group's limit."""
    import psutil

    total = int(psutil.virtual_memory().total)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def memory_available() -> int:
    """Return how many bytes of memory are free for a new process."""
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
    return _cpuinfo("model name") or "processor"


def _processor_flags() -> set[str]:
    return set((_cpuinfo("flags") or _cpuinfo("Features")).split())


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
