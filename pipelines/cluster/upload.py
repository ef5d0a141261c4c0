"""Sends a local data file to the runs volume: a run of the template `receive` waits for it, and a port-forward leads there.

Whoever may start runs may do this: it takes no right to create pods or to execute anything in them.
"""

import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.cluster.argo_nodes import ended
from pipelines.cluster.argo_server import ClusterConnection
from pipelines.cluster.cluster_result import result_of
from pipelines.cluster.follow import CONTROLLER_SECONDS, RUN_LABEL, find_run
from pipelines.cluster.submission import build, installed, submit
from pipelines.workflows import receive
from pipelines.workflows.step_pods.containers import RUNS_MOUNT
from steps.common.kubernetes.api_errors import ForbiddenError, api_errors
from steps.common.kubernetes.wait import StartWatch, pod_events, why_not_ready
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress
from steps.common.storage.files import sha256_of
from steps.receive.incoming_file import PART
from steps.receive.upload_listener import PORT, RECEIVED, REFUSED, SEND, digest_of_token

START_SECONDS = 180.0  # for the receiver's pod to run
LISTEN_SECONDS = 60.0  # for the receiver to listen once its pod runs
ANSWER_SECONDS = 600.0  # for the receiver to write a part, and to sync the file
POLL_SECONDS = 0.5
SUBJECT = "the pod that receives the data"


def upload(connection: ClusterConnection, file: Path) -> str:
    """Send the file to the runs volume, unless it is there already, and return its path inside a step.

    Raises:
        UserError: the template `receive` is not installed, its pod does not start, or the file does not arrive.
    """
    installed(connection, receive.NAME)
    digest, size, token = sha256_of(file), file.stat().st_size, secrets.token_urlsafe(32)
    target = f"{RUNS_MOUNT}/data/{digest[:16]}/{file.name}"
    wanted = {"file": file.name, "sha256": digest, "size": str(size), "token_sha256": digest_of_token(token)}
    run = submit(connection, build(receive.NAME, wanted, receive.NAME))
    try:
        pod = _running_pod(connection, run)
        if pod:
            _send(connection, run, pod, file, token)
    except UserError:
        with suppress(UserError):
            connection.stop(run)
        raise
    return target


def _running_pod(connection: ClusterConnection, run: str) -> str:
    """Wait until the receiver's pod runs, and return its name; empty if the run has succeeded: the file was there already."""
    watch, started = StartWatch(SUBJECT), time.monotonic()
    pods: list[Any] = []
    events: list[Any] = []
    while (waited := time.monotonic() - started) < START_SECONDS:
        if _succeeded(connection, run):
            return ""
        pods = _pods(connection, run)
        if pods and pods[0].status.phase == "Running":
            return str(pods[0].metadata.name)
        if not pods and waited > CONTROLLER_SECONDS and not find_run(connection, run).get("status", {}).get("phase"):
            raise UserError(
                f"no workflow controller has picked up {run}, which receives the data, in {waited:.0f} s; check that Argo's "
                f"workflow-controller is running: kubectl get pods -A -l app=workflow-controller"
            )
        events = pod_events(connection.core, connection.namespace, pods)
        if watch.will_never_start(pods, events):
            break
        time.sleep(POLL_SECONDS)
    raise UserError(f"{SUBJECT} did not start in {waited:.0f} s: {why_not_ready(pods, events)}")


def _succeeded(connection: ClusterConnection, run: str) -> bool:
    """Return whether the receiver has ended well.

    Raises:
        UserError: it has failed.
    """
    workflow = find_run(connection, run)
    if ended(workflow) and workflow["status"]["phase"] != "Succeeded":
        raise UserError(f"the data could not be received: {result_of(workflow)['message']}")
    return ended(workflow)


def _pods(connection: ClusterConnection, run: str) -> list[Any]:
    with api_errors():
        found = connection.core.list_namespaced_pod(connection.namespace, label_selector=f"{RUN_LABEL}={run}")
    return list(found.items)


def _send(connection: ClusterConnection, run: str, pod: str, file: Path, token: str) -> None:
    """Connect as soon as the receiver listens, and send the file part by part."""
    end = time.monotonic() + LISTEN_SECONDS
    while True:
        try:
            forward = _Forward(connection, pod)
        except ForbiddenError:
            raise
        except UserError as error:  # the pod has just ended: the file was there already
            problem = str(error)
        else:
            with forward:
                if forward.ask(f"{token}\n".encode()) == SEND:
                    forward.send(file)
                    return
                problem = forward.problem()
        if _succeeded(connection, run):
            return
        if time.monotonic() > end:
            raise UserError(
                f"{file}: no connection to pod {pod} by pods/portforward in {LISTEN_SECONDS:.0f} s: {problem}"
            )
        time.sleep(POLL_SECONDS)


class _Forward:
    """One connection to the receiver's port."""

    def __init__(self, connection: ClusterConnection, pod: str) -> None:
        from kubernetes.stream import portforward

        call = connection.core.connect_get_namespaced_pod_portforward
        with api_errors():
            self._forward = portforward(call, pod, connection.namespace, ports=str(PORT))
        self._socket = self._forward.socket(PORT)
        self._socket.settimeout(ANSWER_SECONDS)
        self._answers = self._socket.makefile("r", encoding="utf-8")

    def __enter__(self) -> "_Forward":
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._forward.close()

    def problem(self) -> str:
        """Return why the last connection did not work, as the kubelet reports it."""
        return " ".join(str(self._forward.error(PORT) or "the connection was closed").split())

    def ask(self, data: bytes) -> str:
        """Send data, and return the answer; empty if the connection was closed.

        Raises:
            UserError: the receiver refuses.
        """
        try:
            self._socket.sendall(data)
            answer: str = self._answers.readline().strip()
        except OSError:
            return ""
        if answer.startswith(REFUSED):
            raise UserError(f"the data could not be received: {answer.removeprefix(REFUSED).strip()}")
        return answer

    def send(self, file: Path) -> None:
        """Send the file.

        Raises:
            UserError: it did not arrive.
        """
        progress, sent = Progress(file.stat().st_size >> 10, f"KiB of {file.name}"), 0
        with file.open("rb") as source:
            part = source.read(PART)
            while True:
                answer = self.ask(part)
                sent += len(part)
                progress.update(sent >> 10)
                part = source.read(PART)
                if answer == RECEIVED:
                    return
                if answer != str(sent) or not part:
                    raise UserError(f"{file}: did not arrive on the runs volume: {self.problem()}; submit it again")
