"""Checks the nodes' GPUs, the images, and the quotas."""

from typing import Any

from pipelines.cluster.config_map import setting
from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import Finding, State, unknown
from steps.common.nodes.gpu_nodes import GPU

# Labels of nodes with a GPU, which exist before a device plugin runs: NVIDIA's feature discovery, Karpenter on AWS and
# Azure, EKS, AKS, GKE.
GPU_LABELS = (
    "nvidia.com/gpu.present",
    "feature.node.kubernetes.io/pci-10de.present",
    "karpenter.k8s.aws/instance-gpu-name",
    "karpenter.azure.com/sku-gpu-name",
    "eks.amazonaws.com/instance-gpu-name",
    "k8s.amazonaws.com/accelerator",
    "kubernetes.azure.com/accelerator",
    "cloud.google.com/gke-accelerator",
)
PLUGIN = "https://github.com/NVIDIA/k8s-device-plugin#quick-start"


def gpus(connection: Connection) -> list[Finding]:
    """Count the GPUs that pods can request, and find nodes whose GPUs they cannot."""
    with questions.if_allowed():
        nodes = connection.core.list_node().items
        ready = sum(int(node.status.allocatable.get(GPU, 0)) for node in nodes)
        blind = [
            node.metadata.name
            for node in nodes
            if any(label in (node.metadata.labels or {}) for label in GPU_LABELS)
            and not int(node.status.allocatable.get(GPU, 0))
        ]
        if blind:
            text = f"node {blind[0]} has a GPU but does not advertise it: its driver or device plugin is missing"
            return [Finding("GPUs", State.NOTE, text, f"install the device plugin: {PLUGIN}")]
        where = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
        text = f"{ready or 'none'} on {where}"
        return [Finding("GPUs", State.OK if ready else State.NOTE, text)]
    return [unknown("GPUs", "nodes")]


def images(connection: Connection) -> list[Finding]:
    """Check that the images are on a node or can be pulled; the smallest one is tried with a short-lived pod."""
    with questions.if_allowed():
        template = connection.get("workflowtemplates", "finetune")
        return [_images(connection, template["spec"])] if template else []
    return [unknown("images", "WorkflowTemplates, or create a pod that tries an image")]


def _images(connection: Connection, spec: dict[str, Any]) -> Finding:
    templates = spec["templates"]
    wanted = sorted({t["script"]["image"] for t in templates if "script" in t})
    serve = setting(connection, "FINELINE_SERVE_IMAGE")
    wanted += [serve] if serve else []
    with questions.if_allowed():
        present = {
            name.removeprefix("docker.io/library/").removeprefix("localhost/")
            for node in connection.core.list_node().items
            for image in node.status.images or []
            for name in image.names or []
        }
        missing = [image for image in wanted if image not in present]
        if not missing:
            return Finding("images", State.OK, f"{', '.join(wanted)}: on a node")
    control = next(t["script"]["image"] for t in templates if t["name"] == "plan")
    why = questions.cannot_pull(connection, control, spec.get("imagePullSecrets", []))
    if why:
        push = (
            "build and push images/, and set your registry in argo/components/registry (kind: kind load docker-image)"
        )
        return Finding("images", State.MISSING, f"{control}: {why}", push)
    return Finding("images", State.OK, f"{control} can be pulled; the larger ones were not tried")


def quotas(connection: Connection) -> list[Finding]:
    """Find quotas under which a step's pod could not be created."""
    with questions.if_allowed():
        found: list[Finding] = []
        for quota in connection.core.list_namespaced_resource_quota(connection.namespace).items:
            found += _quota(quota)
        return found or [Finding("quotas", State.OK, "none prevents a run")]
    return [unknown("quotas", "ResourceQuotas")]


def _quota(quota: Any) -> list[Finding]:
    name, hard, used = quota.metadata.name, quota.spec.hard or {}, quota.status.used or {}
    if "pods" in hard and int(used.get("pods", 0)) >= int(hard["pods"]):
        return [Finding("quotas", State.MISSING, f"{name}: {used['pods']} of {hard['pods']} pods exist", "raise it")]
    return []
