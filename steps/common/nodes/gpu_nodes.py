"""The cluster's own GPU nodes, as instance types to choose from."""

from typing import Any

from presets.gpu_preset import CLOUDS, GpuPreset
from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import api_errors
from steps.common.nodes import instance_types
from steps.common.runtime.errors import UserError

GPU = "nvidia.com/gpu"
TYPE_LABEL = "node.kubernetes.io/instance-type"
# Labels that NVIDIA GPU Feature Discovery sets on a node.
PRODUCT_LABEL, MEMORY_LABEL, MAJOR_LABEL, MINOR_LABEL = (
    "nvidia.com/gpu.product",
    "nvidia.com/gpu.memory",
    "nvidia.com/gpu.compute.major",
    "nvidia.com/gpu.compute.minor",
)


def existing() -> list[GpuPreset]:
    """Return the types of the cluster's GPU nodes; they cost a run nothing.

    Raises:
        UserError: no node has a GPU, or the memory of none of the GPUs is known.
    """
    with api_errors():
        nodes = client.core().list_node().items
    with_gpus = [node for node in nodes if int((node.status.allocatable or {}).get(GPU, 0))]
    if not with_gpus:
        raise UserError(
            f"no node advertises {GPU}; install NVIDIA's device plugin on the nodes that have GPUs, or let Karpenter add nodes"
        )
    found = {preset.instance_type: preset for node in with_gpus if (preset := _preset(node))}
    if not found:
        raise UserError(
            f"node {with_gpus[0].metadata.name} advertises {GPU}, but it has no label {MEMORY_LABEL} and its instance type is "
            "in no GPU preset, so the GPU's memory is unknown; install NVIDIA GPU Feature Discovery"
        )
    return list(found.values())


def _preset(node: Any) -> GpuPreset | None:
    labels, gpus = node.metadata.labels or {}, int(node.status.allocatable[GPU])
    kind = labels.get(TYPE_LABEL, "")
    known = next((one for cloud in CLOUDS for one in instance_types.of_cloud(cloud) if one.instance_type == kind), None)
    if MEMORY_LABEL in labels:
        capability = float(f"{labels.get(MAJOR_LABEL, '0')}.{labels.get(MINOR_LABEL, '0')}") or None
        return GpuPreset(
            instance_type=kind or labels.get(PRODUCT_LABEL, node.metadata.name),
            gpu=known.gpu if known else labels.get(PRODUCT_LABEL, "GPU").removeprefix("NVIDIA-"),
            gpus=gpus,
            gpu_mib=int(labels[MEMORY_LABEL]),
            compute_capability=capability,
            on_demand=0.0,
        )
    return known.model_copy(update={"gpus": gpus, "on_demand": 0.0, "spot": None, "priced_on": ""}) if known else None
