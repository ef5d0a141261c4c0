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
# A quota on the first requires every container to set the second.
REQUIRED_BY_QUOTA = {
    "limits.cpu": "limits.cpu",
    "limits.memory": "limits.memory",
    "requests.cpu": "requests.cpu",
    "requests.memory": "requests.memory",
    "cpu": "requests.cpu",
    "memory": "requests.memory",
}
LIMIT_RANGE = (
    'echo \'{{"apiVersion":"v1","kind":"LimitRange","metadata":{{"name":"fineline"}},"spec":{{"limits":[{{"type":"Container",'
    '"default":{{"cpu":"4","memory":"8Gi"}},"defaultRequest":{{"cpu":"10m","memory":"64Mi"}}}}]}}}}\' '
    "| kubectl apply -n {namespace} -f -"
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
        return [_images(connection, template["spec"]["templates"])] if template else []
    return [unknown("images", "WorkflowTemplates, or create a pod that tries an image")]


def _images(connection: Connection, templates: list[dict[str, Any]]) -> Finding:
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
    why = questions.cannot_pull(connection, control)
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
            found += _quota(connection, quota)
        return found or [Finding("quotas", State.OK, "none prevents a run")]
    return [unknown("quotas", "ResourceQuotas")]


def _quota(connection: Connection, quota: Any) -> list[Finding]:
    name, hard, used = quota.metadata.name, quota.spec.hard or {}, quota.status.used or {}
    required = sorted(
        {REQUIRED_BY_QUOTA[key] for key in hard if key in REQUIRED_BY_QUOTA} - _default_resources(connection)
    )
    if required:
        text = f"{name} requires {' and '.join(required)} of every container, and Argo's set none"
        return [Finding("quotas", State.MISSING, text, LIMIT_RANGE.format(namespace=connection.namespace))]
    if "pods" in hard and int(used.get("pods", 0)) >= int(hard["pods"]):
        return [Finding("quotas", State.MISSING, f"{name}: {used['pods']} of {hard['pods']} pods exist", "raise it")]
    return []


def _default_resources(connection: Connection) -> set[str]:
    """Return what the namespace's LimitRanges set on a container that sets nothing."""
    given: set[str] = set()
    for one in connection.core.list_namespaced_limit_range(connection.namespace).items:
        for limit in one.spec.limits:
            if limit.type == "Container":
                given |= {f"limits.{key}" for key in limit.default or {}}
                # Without a default, a request equals the limit.
                given |= {f"requests.{key}" for key in {**(limit.default or {}), **(limit.default_request or {})}}
    return given
