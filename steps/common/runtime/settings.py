"""A cluster's settings, which the namespace's ConfigMap `fineline` passes to every step as environment variables."""

import os
import re
from pathlib import Path

COMPUTE_SETTING = "FINELINE_COMPUTE"  # what provides GPU nodes: karpenter, compute-class or nodes; unset: nothing
NODE_CLASS_SETTING = "FINELINE_NODE_CLASS"  # GROUP/KIND of a NodeClass other than those that the clouds provide
CLOUD_SETTING = "FINELINE_CLOUD"  # the cloud whose GPU presets apply
GPU_PRESETS_SETTING = "FINELINE_GPU_PRESETS"  # a file of instance types in addition to those included
KARPENTER_METRICS_SETTING = "FINELINE_KARPENTER_METRICS"  # URL of Karpenter's metrics, which contain live prices
WEIGHTS_BUDGET_SETTING = "FINELINE_WEIGHTS_BUDGET"  # how much of the weights volume base models may use, e.g. 500GB
PRUNE_KEEP_SETTING = "FINELINE_PRUNE_KEEP"  # how many of each model's latest versions `prune` keeps on the runs volume
PRUNE_DAYS_SETTING = "FINELINE_PRUNE_DAYS"  # for how many days `prune` keeps what was used
SIZE = re.compile(r"(?P<number>\d+(\.\d+)?) ?((?P<prefix>[kKMGT])(?P<binary>i)?)?B?")


def compute_provider() -> str:
    """Return what provides GPU nodes; an empty string if nothing does."""
    return os.environ.get(COMPUTE_SETTING, "")


def custom_gpu_presets() -> Path | None:
    """Return the file of the user's own instance types, if there is one."""
    name = os.environ.get(GPU_PRESETS_SETTING, "")
    return Path(name).expanduser() if name else None


def weights_budget() -> int:
    """Return how many bytes base models may use; 0: as many as the volume holds.

    Raises:
        ValueError: the setting is not a size.
    """
    text = os.environ.get(WEIGHTS_BUDGET_SETTING, "")
    return size_in_bytes(text) if text else 0


def prune_keep() -> int:
    """Return how many of each model's latest versions `prune` keeps.

    Raises:
        ValueError: the setting is not a whole number.
    """
    return _whole_number(os.environ.get(PRUNE_KEEP_SETTING) or "3")


def prune_days() -> int:
    """Return for how many days `prune` keeps what was used.

    Raises:
        ValueError: the setting is not a whole number.
    """
    return _whole_number(os.environ.get(PRUNE_DAYS_SETTING) or "7")


def _whole_number(text: str) -> int:
    if not text.isdigit():
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def size_in_bytes(text: str) -> int:
    """Return the bytes of a size such as 500GB, 1.5TB or 300GiB.

    Raises:
        ValueError: the text is not a size.
    """
    match = SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a size; write it as 500GB, 1.5TB or 300GiB")
    power = " kMGT".index(match["prefix"] or " ") if match["prefix"] != "K" else 1
    return int(float(match["number"]) * (1024 if match["binary"] else 1000) ** power)
