"""Sends a local data file to the runs volume, into a folder named after its digest, through a short-lived pod."""

import time
from pathlib import Path
from typing import Any

from pipelines.cluster.argo_server import ClusterConnection
from pipelines.workflows.containers import MOUNTS_LABEL, PART_OF, POD_SECURITY, RUNS_MOUNT, SECURITY
from steps.common.kubernetes.api_errors import api_errors, none_if_absent
from steps.common.kubernetes.wait import StartWatch, pod_events, why_not_ready
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress
from steps.common.storage.files import sha256_of
from steps.common.storage.receive import ALREADY_PRESENT, RECEIVED

READY_SECONDS, LONGEST_SECONDS = 180, 3600
CHUNK = 1 << 20


def upload(connection: ClusterConnection, file: Path, template: dict[str, Any]) -> str:
    """Send the file to the runs volume, unless it is there already, and return its path inside a step.

    Args:
        connection: to the cluster.
        file: what to send.
        template: the installed WorkflowTemplate; the pod uses its image and its affinity.

    Raises:
        UserError: the pod does not start, or the file does not arrive.
    """
    digest, size = sha256_of(file), file.stat().st_size
    target = f"{RUNS_MOUNT}/data/{digest[:16]}/{file.name}"
    pod = _create_pod(connection, template["spec"])
    try:
        _wait(connection, pod)
        _send(connection, pod, file, ["python", "-m", "steps.common.storage.receive", target, digest, str(size)])
    finally:
        none_if_absent(lambda: connection.core.delete_namespaced_pod(pod, connection.namespace, grace_period_seconds=0))
    return target


def _create_pod(connection: ClusterConnection, spec: dict[str, Any]) -> str:
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
    with api_errors():
        return str(connection.core.create_namespaced_pod(connection.namespace, body).metadata.name)


def _wait(connection: ClusterConnection, pod: str) -> None:
    core, space = connection.core, connection.namespace
    watch, started = StartWatch("the pod that receives the data"), time.monotonic()
    while (waited := time.monotonic() - started) < READY_SECONDS:
        with api_errors():
            found = core.read_namespaced_pod(pod, space)
        if found.status.phase == "Running":
            return
        if watch.will_never_start([found], pod_events(core, space, [found])):
            break
        time.sleep(0.5)
    why = why_not_ready([found], pod_events(core, space, [found]))
    raise UserError(f"the pod that receives the data did not start in {waited:.0f} s: {why}")


def _send(connection: ClusterConnection, pod: str, file: Path, command: list[str]) -> None:
    from kubernetes.stream import stream

    with api_errors():
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
    answer = b""
    with file.open("rb") as source:
        sent = 0
        while channel.is_open():
            channel.update(timeout=0)
            answer += channel.read_stdout(timeout=0) if channel.peek_stdout() else b""
            if ALREADY_PRESENT.encode() in answer or not (part := source.read(CHUNK)):
                break
            channel.write_stdin(part)
            sent += len(part)
            progress.update(sent >> 10)
    channel.run_forever(timeout=600)
    answer += channel.read_stdout(timeout=0) or b""
    if not any(word.encode() in answer for word in (RECEIVED, ALREADY_PRESENT)):
        errors = " ".join((channel.read_stderr(timeout=0) or b"").decode(errors="replace").split())
        raise UserError(f"{file}: did not arrive on the runs volume: {errors or 'the connection was closed'}")
