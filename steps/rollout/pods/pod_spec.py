"""What all pods of a rollout share: no privileges, a read-only image, the volumes and the affinity to their node."""

from typing import Any

from steps.rollout.checks import server_needs

MOUNTS = {"fineline.dev/mounts": "volumes"}  # label of pods that mount the volumes
WEIGHTS_CLAIM, RUNS_CLAIM = "fineline-weights", "fineline-runs"
TMP = {"name": "tmp", "mountPath": "/tmp"}
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
