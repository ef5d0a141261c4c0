"""What a namespace says of its cluster, as environment variables of every step: the ConfigMap `fineline`."""

import os
import re
from pathlib import Path

COMPUTE_SETTING = "FINELINE_COMPUTE"  # who brings GPU nodes: karpenter, compute-class, nodes; unset: nobody
NODE_CLASS_SETTING = "FINELINE_NODE_CLASS"  # GROUP/KIND of a NodeClass that is none of the clouds' own
CLOUD_SETTING = "FINELINE_CLOUD"  # whose GPU presets hold for it
GPU_PRESETS_SETTING = "FINELINE_GPU_PRESETS"  # a file of instance types beside those that ship
KARPENTER_METRICS_SETTING = "FINELINE_KARPENTER_METRICS"  # address of Karpenter's metrics, which have live prices
WEIGHTS_BUDGET_SETTING = "FINELINE_WEIGHTS_BUDGET"  # what base models may take of the weights volume, e.g. 500GB
SIZE = re.compile(r"(?P<number>\d+(\.\d+)?) ?((?P<prefix>[kKMGT])(?P<binary>i)?)?B?")


def compute_provider() -> str:
    """Return who brings GPU nodes; empty where nobody does."""
    return os.environ.get(COMPUTE_SETTING, "")


def custom_gpu_presets() -> Path | None:
    """Return the file of the user's own instance types, where there is one."""
    name = os.environ.get(GPU_PRESETS_SETTING, "")
    return Path(name).expanduser() if name else None


def weights_budget() -> int:
    """Return how many bytes the base models may take; 0: as many as there is room for.

    Raises:
        ValueError: the setting is no size.
    """
    told = os.environ.get(WEIGHTS_BUDGET_SETTING, "")
    return size_in_bytes(told) if told else 0


def size_in_bytes(text: str) -> int:
    """Return the bytes of a size such as 500GB, 1.5TB or 300GiB.

    Raises:
        ValueError: it is none.
    """
    match = SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no size; write it as 500GB, 1.5TB or 300GiB")
    power = " kMGT".index(match["prefix"] or " ") if match["prefix"] != "K" else 1
    return int(float(match["number"]) * (1024 if match["binary"] else 1000) ** power)
