"""What a namespace says of its cluster, as environment variables of every step: the ConfigMap `fineline`."""

import os
from pathlib import Path

COMPUTE_SETTING = "FINELINE_COMPUTE"  # who brings GPU nodes: karpenter, compute-class, nodes; unset: nobody
NODE_CLASS_SETTING = "FINELINE_NODE_CLASS"  # GROUP/KIND of a NodeClass that is none of the clouds' own
CLOUD_SETTING = "FINELINE_CLOUD"  # whose GPU presets hold for it
GPU_PRESETS_SETTING = "FINELINE_GPU_PRESETS"  # a file of instance types beside those that ship
METRICS_SETTING = "FINELINE_KARPENTER_METRICS"  # address of Karpenter's metrics, which have live prices


def compute_provider() -> str:
    """Return who brings GPU nodes; empty where nobody does."""
    return os.environ.get(COMPUTE_SETTING, "")


def own_gpu_presets() -> Path | None:
    """Return the file of the user's own instance types, where there is one."""
    name = os.environ.get(GPU_PRESETS_SETTING, "")
    return Path(name).expanduser() if name else None
