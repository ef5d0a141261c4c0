"""The GPU nodes that are there, as instance types to choose from."""

from typing import Any

from presets.gpu_preset import CLOUDS, GpuPreset
from steps.common.kubernetes import client
from steps.common.kubernetes.errors import api_errors
from steps.common.nodes import instance_types
from steps.common.runtime.errors import UserError

GPU = "nvidia.com/gpu"
TYPE_LABEL = "node.kubernetes.io/instance-type"
# What NVIDIA's GPU feature discovery labels a node with.
PRODUCT_LABEL, MEMORY_LABEL, MAJOR_LABEL, MINOR_LABEL = (
    "nvidia.com/gpu.product",
    "nvidia.com/gpu.memory",
    "nvidia.com/gpu.compute.major",
    "nvidia.com/gpu.compute.minor",
)


def existing() -> list[GpuPreset]:
    """Return the kinds of GPU nodes that are there; they cost nothing more, whoever pays for them.

    Raises:
        UserError: there is none, or none of which the GPU's memory is known.
    """
    with api_errors():
        nodes = client.core().list_node().items
    with_gpus = [node for node in nodes if int((node.status.allocatable or {}).get(GPU, 0))]
    if not with_gpus:
        raise UserError(
            f"no node offers {GPU}; install NVIDIA's device plugin on the nodes that have GPUs, or let Karpenter bring some"
        )
    found = {preset.instance_type: preset for node in with_gpus if (preset := _preset(node))}
    if not found:
        name = with_gpus[0].metadata.name
        raise UserError(
            f"node {name} offers {GPU}, and neither its label {MEMORY_LABEL} nor a GPU preset of its instance type tells "
            "how much memory they have; install NVIDIA's GPU feature discovery"
        )
    return list(found.values())


def _preset(node: Any) -> GpuPreset | None:
    labels, there = node.metadata.labels or {}, int(node.status.allocatable[GPU])
    kind = labels.get(TYPE_LABEL, "")
    known = next((one for cloud in CLOUDS for one in instance_types.of_cloud(cloud) if one.instance_type == kind), None)
    if MEMORY_LABEL in labels:
        capability = float(f"{labels.get(MAJOR_LABEL, '0')}.{labels.get(MINOR_LABEL, '0')}") or None
        return GpuPreset(
            instance_type=kind or labels.get(PRODUCT_LABEL, node.metadata.name),
            gpu=known.gpu if known else labels.get(PRODUCT_LABEL, "GPU").removeprefix("NVIDIA-"),
            gpus=there,
            gpu_mib=int(labels[MEMORY_LABEL]),
            compute_capability=capability,
            on_demand=0.0,
        )
    return known.model_copy(update={"gpus": there, "on_demand": 0.0, "spot": None, "priced_on": ""}) if known else None
