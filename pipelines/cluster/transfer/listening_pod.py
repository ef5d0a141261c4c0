"""Talks to a step that waits for one connection: starts its run, and connects to its pod by a port-forward, with a token.

Whoever may start runs may do this: it takes no right to create pods or to execute anything in them.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from pipelines.cluster.argo_nodes import ended
from pipelines.cluster.argo_server import ClusterConnection
from pipelines.cluster.cluster_result import result_of
from pipelines.cluster.follow import CONTROLLER_SECONDS, RUN_LABEL, find_run
from pipelines.cluster.submission import build, installed, submit
from pipelines.cluster.transfer.forwarded_port import ForwardedPort
from steps.common.kubernetes.api_errors import ForbiddenError, api_errors
from steps.common.kubernetes.wait import StartWatch, pod_events, why_not_ready
from steps.common.port_forward.pod_conversation import PodConversation, RefusedByOtherEndError
from steps.common.port_forward.token_listener import PORT, SEND, digest_of_token
from steps.common.runtime.errors import UnreachableError, UserError

START_SECONDS = 180.0  # for the pod to run
LISTEN_SECONDS = 60.0  # for its step to listen once it runs
REASON_SECONDS = 5.0  # for Argo to tell why a pod has ended
POLL_SECONDS = 0.5

T = TypeVar("T")


@dataclass(frozen=True)
class Errand:
    """What a step is started for, in the words of messages."""

    subject: str  # what waits: "the pod that receives the data"
    failed: str  # what has not been done: "the data could not be received"


def talk_to_pod(
    connection: ClusterConnection,
    template: str,
    parameters: dict[str, str],
    errand: Errand,
    talk: Callable[[PodConversation], T],
) -> T | None:
    """Start a run of the template, connect to its pod, and return what `talk` returns; None: the run needed no connection.

    Args:
        connection: the cluster.
        template: its only step listens for whoever knows the token.
        parameters: of the run, without the token's digest.
        errand: for messages.
        talk: what is said.

    Raises:
        UserError: the template is not installed, its pod does not start, the step refuses, or the connection breaks off. The
            run is stopped, as it is by Ctrl-C.
        UnreachableError: something that the step needs did not answer. The run is stopped too.
    """
    installed(connection, template)
    token = secrets.token_urlsafe(32)
    run = submit(connection, build(template, {**parameters, "token_sha256": digest_of_token(token)}, template))
    try:
        pod = _running_pod(connection, run, errand)
        return _connect(connection, run, pod, token, errand, talk) if pod else None
    except BaseException:
        with suppress(UserError):
            connection.stop(run)
        raise


def _running_pod(connection: ClusterConnection, run: str, errand: Errand) -> str:
    """Wait until the run's pod runs, and return its name; empty if the run has succeeded."""
    watch, started = StartWatch(errand.subject), time.monotonic()
    pods: list[Any] = []
    events: list[Any] = []
    while (waited := time.monotonic() - started) < START_SECONDS:
        if _succeeded(connection, run, errand):
            return ""
        pods = _pods(connection, run)
        if pods and pods[0].status.phase == "Running":
            return str(pods[0].metadata.name)
        if not pods and waited > CONTROLLER_SECONDS and not find_run(connection, run).get("status", {}).get("phase"):
            raise UserError(
                f"no workflow controller has picked up {run}, for {errand.subject}, in {waited:.0f} s; check that Argo's "
                f"workflow-controller is running: kubectl get pods -A -l app=workflow-controller"
            )
        events = pod_events(connection.core, connection.namespace, pods)
        if watch.will_never_start(pods, events):
            break
        time.sleep(POLL_SECONDS)
    raise UserError(f"{errand.subject} did not start in {waited:.0f} s: {why_not_ready(pods, events)}")


def _succeeded(connection: ClusterConnection, run: str, errand: Errand) -> bool:
    """Return whether the run has ended well.

    Raises:
        UserError: it has failed.
    """
    workflow = find_run(connection, run)
    if ended(workflow) and workflow["status"]["phase"] != "Succeeded":
        raise UserError(f"{errand.failed}: {result_of(workflow)['message']}")
    return ended(workflow)


def _pods(connection: ClusterConnection, run: str) -> list[Any]:
    with api_errors():
        found = connection.core.list_namespaced_pod(connection.namespace, label_selector=f"{RUN_LABEL}={run}")
    return list(found.items)


def _connect(
    connection: ClusterConnection,
    run: str,
    pod: str,
    token: str,
    errand: Errand,
    talk: Callable[[PodConversation], T],
) -> T | None:
    """Connect as soon as the step listens, and talk."""
    end = time.monotonic() + LISTEN_SECONDS
    while True:
        try:
            forward = ForwardedPort(connection, pod, PORT)
        except ForbiddenError:
            raise
        except UserError as error:  # the pod has just ended
            problem = str(error)
        else:
            with forward:
                if _is_let_in(forward.conversation, token, errand):
                    return _talk(connection, run, forward, errand, talk)
                problem = forward.problem() or "the connection was closed"
        if _succeeded(connection, run, errand):
            return None
        if time.monotonic() > end:
            raise UserError(
                f"{errand.failed}: no connection to pod {pod} by pods/portforward in {LISTEN_SECONDS:.0f} s: {problem}"
            )
        time.sleep(POLL_SECONDS)


def _is_let_in(conversation: PodConversation, token: str, errand: Errand) -> bool:
    """Show the token, and return whether the step asks to begin; not if it does not listen yet."""
    try:
        conversation.tell(token)
        return conversation.hear() == SEND
    except RefusedByOtherEndError as error:
        raise UserError(f"{errand.failed}: {error}") from None
    except OSError:
        return False


def _talk(
    connection: ClusterConnection,
    run: str,
    forward: ForwardedPort,
    errand: Errand,
    talk: Callable[[PodConversation], T],
) -> T:
    try:
        return talk(forward.conversation)
    except RefusedByOtherEndError as error:
        raise UserError(f"{errand.failed}: {error}") from None
    except UnreachableError as error:
        raise UnreachableError(f"{errand.failed}: {error}") from None
    except (ConnectionError, TimeoutError) as error:
        end = time.monotonic() + REASON_SECONDS
        while time.monotonic() < end and not _succeeded(connection, run, errand):  # which tells why it has failed
            time.sleep(POLL_SECONDS)
        problem = forward.problem() or str(error)
        raise UserError(f"{errand.failed}: the connection broke off: {problem}; run the command again") from None
