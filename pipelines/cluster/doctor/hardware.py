"""The nodes: their GPUs, and whether they have the images."""

from typing import Any

from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import Finding, State, unknown
from pipelines.cluster.settings import setting

GPU = "nvidia.com/gpu"
# What tells of a GPU before its device plugin does: NVIDIA's feature discovery, Karpenter on AWS and Azure, GKE.
SIGNS = (
    "nvidia.com/gpu.present",
    "feature.node.kubernetes.io/pci-10de.present",
    "karpenter.k8s.aws/instance-gpu-name",
    "karpenter.azure.com/sku-gpu-name",
    "cloud.google.com/gke-accelerator",
)
PLUGIN = "https://github.com/NVIDIA/k8s-device-plugin#quick-start"


def gpus(connection: Connection) -> list[Finding]:
    """Tell how many GPUs can be asked for, and on which nodes they are there and cannot."""
    with questions.if_allowed():
        nodes = connection.core.list_node().items
        ready = sum(int(node.status.allocatable.get(GPU, 0)) for node in nodes)
        blind = [
            node.metadata.name
            for node in nodes
            if any(sign in (node.metadata.labels or {}) for sign in SIGNS)
            and not int(node.status.allocatable.get(GPU, 0))
        ]
        if blind:
            text = f"{blind[0]} has a GPU and offers none: driver or device plugin are not there"
            return [Finding("GPUs", State.NOTE, text, f"install the device plugin: {PLUGIN}")]
        text = f"{ready} on {len(nodes)} nodes" if ready else f"none on {len(nodes)} nodes: the steps run on CPUs"
        return [Finding("GPUs", State.OK if ready else State.NOTE, text)]
    return [unknown("GPUs", "nodes")]


def images(connection: Connection) -> list[Finding]:
    """Tell whether the images are on a node, or can be had: the smallest is tried by a pod of seconds."""
    template = connection.get("workflowtemplates", "finetune")
    if template is None:
        return []
    wanted = sorted({t["script"]["image"] for t in template["spec"]["templates"] if "script" in t})
    serve = setting(connection, "FINELINE_SERVE_IMAGE")
    wanted += [serve] if serve else []
    with questions.if_allowed():
        there = {
            name.removeprefix("docker.io/library/").removeprefix("localhost/")
            for node in connection.core.list_node().items
            for image in node.status.images or []
            for name in image.names or []
        }
        missing = [image for image in wanted if image not in there]
        if not missing:
            return [Finding("images", State.OK, f"{', '.join(wanted)}: on a node")]
    control = next(t["script"]["image"] for t in template["spec"]["templates"] if t["name"] == "plan")
    why = questions.cannot_pull(connection, control)
    if why:
        push = (
            "build and push images/, and set your registry in argo/components/registry (kind: kind load docker-image)"
        )
        return [Finding("images", State.MISSING, f"{control}: {why}", push)]
    return [Finding("images", State.OK, f"{control} can be had; the larger ones were not tried")]


def quotas(connection: Connection) -> list[Finding]:
    """Tell what quotas leave, and those under which no step's pod would be taken."""
    with questions.if_allowed():
        found: list[Finding] = []
        for quota in connection.core.list_namespaced_resource_quota(connection.namespace).items:
            found += _quota(connection, quota)
        return found or [Finding("quotas", State.OK, "none is in the way")]
    return [unknown("quotas", "ResourceQuotas")]


def _quota(connection: Connection, quota: Any) -> list[Finding]:
    name, hard, used = quota.metadata.name, quota.spec.hard or {}, quota.status.used or {}
    forced = sorted(key for key in hard if key in ("limits.cpu", "limits.memory"))
    if forced and not connection.core.list_namespaced_limit_range(connection.namespace).items:
        text = f"{name} asks {' and '.join(forced)} of every container, and Argo's have none"
        return [
            Finding(
                "quotas",
                State.MISSING,
                text,
                "add a LimitRange with default limits to the namespace, or take these two out of the quota",
            )
        ]
    if "pods" in hard and int(used.get("pods", 0)) >= int(hard["pods"]):
        return [
            Finding("quotas", State.MISSING, f"{name}: {used['pods']} of {hard['pods']} pods are there", "raise it")
        ]
    return []
