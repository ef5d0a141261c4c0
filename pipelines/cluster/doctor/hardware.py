"""The nodes: their GPUs, and whether they have the images."""

from typing import Any

from pipelines.cluster.config_map import setting
from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import Finding, State, unknown

GPU = "nvidia.com/gpu"
# What tells of a GPU before its device plugin does: NVIDIA's feature discovery, Karpenter on AWS and Azure, EKS, AKS, GKE.
SIGNS = (
    "nvidia.com/gpu.present",
    "feature.node.kubernetes.io/pci-10de.present",
    "karpenter.k8s.aws/instance-gpu-name",
    "karpenter.azure.com/sku-gpu-name",
    "eks.amazonaws.com/instance-gpu-name",
    "k8s.amazonaws.com/accelerator",
    "kubernetes.azure.com/accelerator",
    "cloud.google.com/gke-accelerator",
)
# What a quota on the one forces every container to state, and what gives all of it to those that do not.
FORCES = {
    "limits.cpu": "limits.cpu",
    "limits.memory": "limits.memory",
    "requests.cpu": "requests.cpu",
    "requests.memory": "requests.memory",
    "cpu": "requests.cpu",
    "memory": "requests.memory",
}
DEFAULTS = (
    'echo \'{{"apiVersion":"v1","kind":"LimitRange","metadata":{{"name":"fineline"}},"spec":{{"limits":[{{"type":"Container",'
    '"default":{{"cpu":"4","memory":"8Gi"}},"defaultRequest":{{"cpu":"10m","memory":"64Mi"}}}}]}}}}\' '
    "| kubectl apply -n {namespace} -f -"
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
        text = f"{ready} on {len(nodes)} nodes" if ready else f"none on {len(nodes)} nodes"
        return [Finding("GPUs", State.OK if ready else State.NOTE, text)]
    return [unknown("GPUs", "nodes")]


def images(connection: Connection) -> list[Finding]:
    """Tell whether the images are on a node, or can be had: the smallest is tried by a pod of seconds."""
    with questions.if_allowed():
        template = connection.get("workflowtemplates", "finetune")
        return [_images(connection, template["spec"]["templates"])] if template else []
    return [unknown("images", "WorkflowTemplates, or start a pod that tries an image")]


def _images(connection: Connection, templates: list[dict[str, Any]]) -> Finding:
    wanted = sorted({t["script"]["image"] for t in templates if "script" in t})
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
            return Finding("images", State.OK, f"{', '.join(wanted)}: on a node")
    control = next(t["script"]["image"] for t in templates if t["name"] == "plan")
    why = questions.cannot_pull(connection, control)
    if why:
        push = (
            "build and push images/, and set your registry in argo/components/registry (kind: kind load docker-image)"
        )
        return Finding("images", State.MISSING, f"{control}: {why}", push)
    return Finding("images", State.OK, f"{control} can be had; the larger ones were not tried")


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
    forced = sorted({FORCES[key] for key in hard if key in FORCES} - _given(connection))
    if forced:
        text = f"{name} asks {' and '.join(forced)} of every container, and Argo's have none"
        return [Finding("quotas", State.MISSING, text, DEFAULTS.format(namespace=connection.namespace))]
    if "pods" in hard and int(used.get("pods", 0)) >= int(hard["pods"]):
        return [
            Finding("quotas", State.MISSING, f"{name}: {used['pods']} of {hard['pods']} pods are there", "raise it")
        ]
    return []


def _given(connection: Connection) -> set[str]:
    """Return what the namespace's LimitRanges give to a container that states nothing."""
    given: set[str] = set()
    for one in connection.core.list_namespaced_limit_range(connection.namespace).items:
        for limit in one.spec.limits:
            if limit.type == "Container":
                given |= {f"limits.{key}" for key in limit.default or {}}
                # Without a default of its own, a request is what the limit is.
                given |= {f"requests.{key}" for key in {**(limit.default or {}), **(limit.default_request or {})}}
    return given
