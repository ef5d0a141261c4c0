"""What this machine computes with, found without torch."""

import os
import shutil
import subprocess
from pathlib import Path

from steps.common.handover.resolved import Device


def local_device() -> Device:
    """Return this machine's GPUs where NVIDIA's driver lists any, else its processor.

    Memory is what a container's limit leaves, where there is one; cores are those that this process may use.
    """
    return _gpus() or Device(kind="cpu", name=_processor(), count=cores(), memory_bytes=memory_limit())


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def compute_dtype(kind: str) -> str:
    """Return the name of torch's type in which matrix products are fast: "bfloat16" or "float32".

    On a CPU oneDNN multiplies bf16 where there is AVX-512 (or ARM's bf16), which torch tells by
    `torch.ops.mkldnn._is_mkldnn_bf16_supported()`. Elsewhere torch has a plain loop for it: 1.1 GFLOP/s against 36 in fp32
    on two cores of an AMD EPYC with AVX2. Where oneDNN's own `ONEDNN_MAX_CPU_ISA` keeps it to AVX2, this is such a processor
    too (https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html).

    Args:
        kind: "cpu" or "cuda".
    """
    if kind == "cuda":
        return "bfloat16"
    most = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    kept_narrow = most in ("SSE41", "AVX") or most.startswith("AVX2")
    return "bfloat16" if not kept_narrow and has_fast_bf16(_processor_flags()) else "float32"


def has_fast_bf16(flags: set[str]) -> bool:
    """Tell by the processor's flags, as Linux lists them, whether bf16 products are fast on it."""
    return {"avx512bw", "avx512vl", "avx512dq"} <= flags or {"asimd", "bf16"} <= flags


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
    return _processor_says("model name") or "processor"


def _processor_flags() -> set[str]:
    return set((_processor_says("flags") or _processor_says("Features")).split())


def _processor_says(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
