"""What every pod that a rollout makes has: no rights, no writable image, its volumes, and the others that mount them near."""

from typing import Any

from steps.rollout.checks import server_needs

MOUNTS = {"fineline.dev/mounts": "volumes"}  # label of a pod that mounts the volumes
WEIGHTS_CLAIM, RUNS_CLAIM = "fineline-weights", "fineline-runs"
TMP = {"name": "tmp", "mountPath": "/tmp"}
# Of a probe: what it finds hung has no answer under way that is worth the wait, and is started again.
PROBE_GRACE = {"terminationGracePeriodSeconds": server_needs.END_SECONDS}
LOCKED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def container(name: str, image: str, command: list[str], mounts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a container that may write to /tmp alone."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "volumeMounts": [*mounts, TMP],
        "securityContext": LOCKED,
    }


def pod(grace_seconds: int, **security: Any) -> dict[str, Any]:
    """Return what a pod's specification begins with.

    Args:
        grace_seconds: that it has to end.
        security: of its security context, besides its user and the system calls that it may make.
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
    """Return a volume, called as its claim is without its prefix, that is only read."""
    return {
        "name": name.removeprefix("fineline-"),
        "persistentVolumeClaim": {"claimName": name, "readOnly": True},
    }


def on_the_volumes_node() -> dict[str, Any]:
    """Return the affinity to the node of the others that mount the volumes, where these can be mounted on one only."""
    together = {"labelSelector": {"matchLabels": MOUNTS}, "topologyKey": "kubernetes.io/hostname"}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [together]}}
