"""Puts a local data file where the steps can read it: on the runs volume, under its digest, through a pod of minutes."""

import time
from pathlib import Path
from typing import Any

from pipelines.cluster.argo_server import Cluster
from pipelines.cluster.connection import told
from pipelines.workflows.containers import MOUNTS_LABEL, PART_OF, POD_SECURITY, RUNS_MOUNT, SECURITY
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress
from steps.common.storage.files import sha256_of
from steps.common.storage.receive import ALREADY_PRESENT, RECEIVED

READY_SECONDS, LONGEST_SECONDS = 180, 3600
CHUNK = 1 << 20


def upload(connection: Cluster, file: Path, template: dict[str, Any]) -> str:
    """Put the file on the runs volume, unless it is there, and return its path in a step.

    Args:
        connection: the cluster.
        file: what to send.
        template: the installed WorkflowTemplate; the pod has its image and stands where its pods do.

    Raises:
        UserError: no pod could be had, or the file did not arrive.
    """
    digest, size = sha256_of(file), file.stat().st_size
    target = f"{RUNS_MOUNT}/data/{digest[:16]}/{file.name}"
    pod = _begin(connection, template["spec"])
    try:
        _wait(connection, pod)
        _send(connection, pod, file, ["python", "-m", "steps.common.storage.receive", target, digest, str(size)])
    finally:
        with told():
            connection.core.delete_namespaced_pod(pod, connection.namespace, grace_period_seconds=0)
    return target


def _begin(connection: Cluster, spec: dict[str, Any]) -> str:
    image = next(t["script"]["image"] for t in spec["templates"] if t["name"] == "plan")
    body: dict[str, Any] = {
        "metadata": {
            "generateName": "fineline-upload-",
            "labels": {PART_OF: "fineline", "app.kubernetes.io/component": "upload", MOUNTS_LABEL: "volumes"},
        },
        "spec": {
            "restartPolicy": "Never",
            **({"affinity": spec["affinity"]} if "affinity" in spec else {}),
            "activeDeadlineSeconds": LONGEST_SECONDS,
            "automountServiceAccountToken": False,
            "securityContext": POD_SECURITY.model_dump(by_alias=True, exclude_none=True),
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", str(LONGEST_SECONDS)],
                    "volumeMounts": [{"name": "runs", "mountPath": RUNS_MOUNT}],
                    "securityContext": SECURITY.model_dump(by_alias=True, exclude_none=True),
                }
            ],
            "volumes": [{"name": "runs", "persistentVolumeClaim": {"claimName": "fineline-runs"}}],
        },
    }
    with told():
        return str(connection.core.create_namespaced_pod(connection.namespace, body).metadata.name)


def _wait(connection: Cluster, pod: str) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        with told():
            status = connection.core.read_namespaced_pod(pod, connection.namespace).status
        if status.phase == "Running":
            return
        time.sleep(0.5)
    waiting = [c.state.waiting.reason for c in status.container_statuses or [] if c.state.waiting]
    unmet = [c.message for c in status.conditions or [] if c.status != "True" and c.message]
    why = (waiting or unmet or [f"it is {status.phase}"])[0]
    raise UserError(f"the pod that takes the data is not ready after {READY_SECONDS} s: {why}")


def _send(connection: Cluster, pod: str, file: Path, command: list[str]) -> None:
    from kubernetes.stream import stream

    with told():
        channel = stream(
            connection.core.connect_get_namespaced_pod_exec,
            pod,
            connection.namespace,
            command=command,
            stdin=True,
            stdout=True,
            stderr=True,
            _preload_content=False,
            binary=True,
        )
    progress = Progress(file.stat().st_size >> 10, f"KiB of {file.name}")
    said = b""
    with file.open("rb") as source:
        sent = 0
        while channel.is_open():
            channel.update(timeout=0)
            said += channel.read_stdout(timeout=0) if channel.peek_stdout() else b""
            if ALREADY_PRESENT.encode() in said or not (part := source.read(CHUNK)):
                break
            channel.write_stdin(part)
            sent += len(part)
            progress.update(sent >> 10)
    channel.run_forever(timeout=600)
    said += channel.read_stdout(timeout=0) or b""
    if not any(word.encode() in said for word in (RECEIVED, ALREADY_PRESENT)):
        told_by_pod = " ".join((channel.read_stderr(timeout=0) or b"").decode(errors="replace").split())
        raise UserError(f"{file}: did not arrive on the runs volume: {told_by_pod or 'the connection ended'}")
