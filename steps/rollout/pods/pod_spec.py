"""What all pods of a rollout share: no privileges, a read-only image, the volumes and the affinity to their node."""

from typing import Any

from steps.common.runtime import cluster_settings
from steps.rollout.checks import server_needs

MOUNTS = {"fineline.dev/mounts": "volumes"}  # label of pods that mount the volumes
WEIGHTS_CLAIM, RUNS_CLAIM = "fineline-weights", "fineline-runs"
TMP = {"name": "tmp", "mountPath": "/tmp"}
# A server uses the processors that its node has; a cluster's policies may require that the limit is named.
CPU_LIMIT = "32"
MEMORY_LIMIT = 2  # times the memory that a server is expected to take: its cache grows with the requests in progress
# Grace period after a failed probe: a server that hangs has no answer worth waiting for, so restart it soon.
PROBE_GRACE = {"terminationGracePeriodSeconds": server_needs.END_SECONDS}
LOCKED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def container(name: str, image: str, command: list[str], mounts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a container that can write only to /tmp."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "volumeMounts": [*mounts, TMP],
        "securityContext": LOCKED,
    }


def pod(grace_seconds: int, **security: Any) -> dict[str, Any]:
    """Return the common part of a pod's specification.

    Args:
        grace_seconds: its terminationGracePeriodSeconds.
        security: fields of its security context besides the user and the seccomp profile.
    """
    return {
        **cluster_settings.of_every_pod(),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            **security,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def resources(
    cpu: str, memory_bytes: int, devices: dict[str, str] | None = None, cache_bytes: int = 0
) -> dict[str, Any]:
    """Return the requests and limits of a model server's container.

    Args:
        cpu: its request, as a Kubernetes quantity.
        memory_bytes: that it is expected to take.
        devices: such as GPUs.
        cache_bytes: that it may take beyond that, where its node has them.
    """
    most = MEMORY_LIMIT * memory_bytes + cache_bytes
    return {
        "requests": {"cpu": cpu, "memory": str(memory_bytes)},
        "limits": {"cpu": CPU_LIMIT, "memory": str(most), **(devices or {})},
    }


def claim(name: str) -> dict[str, Any]:
    """Return a read-only volume of a claim, named like the claim without its prefix."""
    return {
        "name": name.removeprefix("fineline-"),
        "persistentVolumeClaim": {"claimName": name, "readOnly": True},
    }


def on_different_nodes(labels: dict[str, str]) -> dict[str, Any]:
    """Return the affinity that keeps the pods with these labels on different nodes, where there are several."""
    apart = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    preferred = {"weight": 100, "podAffinityTerm": apart}
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}}


def on_the_volumes_node() -> dict[str, Any]:
    """Return the affinity to the node of the pods that mount the volumes, for volumes that one node can mount."""
    together = {"labelSelector": {"matchLabels": MOUNTS}, "topologyKey": "kubernetes.io/hostname"}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [together]}}
