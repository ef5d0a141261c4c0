"""The two volumes."""

from typing import Any

from pipelines.cluster.config_map import setting
from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import Finding, State, unknown

CLAIMS = ("fineline-weights", "fineline-runs")
WAITS = "WaitForFirstConsumer"


def claims(connection: Connection) -> list[Finding]:
    """Tell whether each volume is there, bound, and mountable by as many nodes as there are."""
    with questions.if_allowed():
        items = connection.core.list_namespaced_persistent_volume_claim(connection.namespace).items
        found = {claim.metadata.name: claim for claim in items}
        return [_claim(connection, name, found.get(name)) for name in CLAIMS]
    return [unknown("volumes", "PersistentVolumeClaims")]


def _claim(connection: Connection, name: str, claim: Any) -> Finding:
    if claim is None:
        apply = f"kubectl apply --server-side -n {connection.namespace} -k argo/overlays/kind  # or aks, eks, gke"
        return Finding("volumes", State.MISSING, f"no PersistentVolumeClaim {name!r}", apply)
    if claim.status.phase != "Bound":
        return _pending(connection, name, claim)
    modes = claim.spec.access_modes or []
    if "ReadWriteMany" not in modes and _nodes(connection) > 1 and not setting(connection, "FINELINE_ONE_NODE"):
        return Finding(
            "volumes",
            State.MISSING,
            f"{name} can be mounted on one node only, and the cluster has several",
            "add the component argo/components/one-node to your overlay, or choose a class that is ReadWriteMany",
        )
    return Finding("volumes", State.OK, f"{name}: {claim.status.capacity['storage']}, {', '.join(modes)}")


def _nodes(connection: Connection) -> int:
    with questions.if_allowed():
        return len(connection.core.list_node().items)
    return 1


def _pending(connection: Connection, name: str, claim: Any) -> Finding:
    from kubernetes import client

    wanted = claim.spec.storage_class_name
    with questions.if_allowed():
        classes = {one.metadata.name: one for one in client.StorageV1Api().list_storage_class().items}
        if wanted and wanted not in classes:
            there = ", ".join(sorted(classes)) or "none"
            text = f"{name} wants the StorageClass {wanted!r}, which is not there (there are: {there})"
            return Finding("volumes", State.MISSING, text, "set storageClassName in your overlay to one of these")
        if not wanted:
            text = f"{name} wants the default StorageClass, and none is (there are: {', '.join(sorted(classes)) or 'none'})"
            return Finding("volumes", State.MISSING, text, "set storageClassName in your overlay")
        if classes[wanted].volume_binding_mode == WAITS:
            return Finding("volumes", State.OK, f"{name} is made when the first step mounts it")
    look = f"kubectl describe pvc {name} -n {connection.namespace}"
    return Finding("volumes", State.MISSING, f"{name} is {claim.status.phase}, not bound", look)
