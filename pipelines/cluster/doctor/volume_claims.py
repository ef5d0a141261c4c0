"""Checks the two volumes."""

from typing import Any

from pipelines.cluster.config_map import setting
from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import questions
from pipelines.cluster.doctor.finding import INSTALL, Finding, State, unknown
from steps.common.kubernetes import client

CLAIMS = ("fineline-weights", "fineline-runs")
WAITS_FOR_POD = "WaitForFirstConsumer"


def claims(connection: Connection) -> list[Finding]:
    """Check that each volume exists, is bound, and can be mounted by as many nodes as the cluster has."""
    with questions.if_allowed():
        items = connection.core.list_namespaced_persistent_volume_claim(connection.namespace).items
        found = {claim.metadata.name: claim for claim in items}
        return [_claim(connection, name, found.get(name)) for name in CLAIMS]
    return [unknown("volumes", "PersistentVolumeClaims")]


def _claim(connection: Connection, name: str, claim: Any) -> Finding:
    if claim is None:
        return Finding("volumes", State.MISSING, f"no PersistentVolumeClaim {name!r}", INSTALL)
    if claim.status.phase != "Bound":
        return _pending(connection, name, claim)
    modes = claim.spec.access_modes or []
    if "ReadWriteMany" not in modes and _nodes(connection) > 1 and not setting(connection, "FINELINE_ONE_NODE"):
        return Finding(
            "volumes",
            State.MISSING,
            f"{name} can be mounted on one node only, and the cluster has several",
            "add the component argo/components/one-node to your overlay, or use a StorageClass with ReadWriteMany",
        )
    return Finding("volumes", State.OK, f"{name}: {claim.status.capacity['storage']}, {', '.join(modes)}")


def _nodes(connection: Connection) -> int:
    with questions.if_allowed():
        return len(connection.core.list_node().items)
    return 1


def _pending(connection: Connection, name: str, claim: Any) -> Finding:
    wanted = claim.spec.storage_class_name
    with questions.if_allowed():
        classes = {one.metadata.name: one for one in client.storage().list_storage_class().items}
        existing = ", ".join(sorted(classes)) or "none"
        if wanted and wanted not in classes:
            text = f"{name} requests the StorageClass {wanted!r}, which does not exist (existing: {existing})"
            return Finding("volumes", State.MISSING, text, "set storageClassName in your overlay to an existing one")
        if not wanted:
            text = f"{name} requests the default StorageClass, and the cluster has no default (existing: {existing})"
            return Finding("volumes", State.MISSING, text, "set storageClassName in your overlay")
        if classes[wanted].volume_binding_mode == WAITS_FOR_POD:
            return Finding("volumes", State.OK, f"{name} will be created when the first step mounts it")
    remedy = f"kubectl describe pvc {name} -n {connection.namespace}"
    return Finding("volumes", State.MISSING, f"{name} is {claim.status.phase}, not bound", remedy)
