"""Why a pod does not start, and whether waiting longer can help.

Kubernetes reports it in several places: in the statuses of the containers (the image, a Secret, a crash), in the pod's
conditions (no node), in the conditions of its Deployment (a quota, an admission policy), and in Events (a volume).
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Any

from steps.common.kubernetes.api_errors import ForbiddenError, api_errors
from steps.common.runtime.waiting import WaitingLine

# What kubelet reports of an image that it cannot pull:
# https://github.com/kubernetes/kubernetes/blob/v1.34.0/pkg/kubelet/images/types.go
PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable")
# What container runtimes and registries write of an image that does not exist or may not be pulled. After other errors, such
# as a timeout, a pull may succeed: kubelet reports the last error while it pulls again, which takes minutes for 10 GB.
NO_IMAGE_MESSAGES = (
    "not found",
    "does not exist",
    "manifest unknown",
    "name unknown",
    "denied",
    "unauthorized",
    "forbidden",
    "authorization failed",
)
CONFIGURATION_REASONS = ("CreateContainerConfigError", "CreateContainerError")
STARTING_REASONS = ("", "PodInitializing", "ContainerCreating")
# Events of a pod that has a node but no containers yet.
STARTING_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
# Events of a pod that has its volumes and its sandbox. Events of solved problems are kept for an hour.
STARTED_EVENTS = ("Pulling", "Pulled", "Created", "Started")
# How long a problem may disappear and still count as the same one: while a pod is replaced, or an image pulled again.
SAME_PROBLEM_SECONDS = 15.0
LONGEST_MESSAGE = 500


class Problem(StrEnum):
    """A kind of problem."""

    ENDED = "ended"
    CRASH_LOOP = "crash loop"
    IMAGE_NAME = "image name"
    IMAGE = "image"
    CONFIGURATION = "configuration"
    NOT_CREATED = "not created"
    CONTAINER = "container"
    IMAGE_PULL = "image pull"
    QUOTA = "quota"
    VOLUME = "volume"
    NO_NODE = "no node"


# How many seconds a problem may last before waiting is pointless; the most serious first.
PATIENCE_SECONDS = {
    Problem.ENDED: 0.0,
    Problem.CRASH_LOOP: 0.0,
    Problem.IMAGE_NAME: 0.0,
    Problem.IMAGE: 60.0,  # it may be about to be pushed; kubelet tries again after 10, 20 and 40 s
    Problem.CONFIGURATION: 60.0,  # an operator may be about to create the Secret
    Problem.NOT_CREATED: 60.0,  # an admission webhook may be restarting
    Problem.CONTAINER: 180.0,  # a busy container runtime may time out a few times
    Problem.IMAGE_PULL: inf,  # the registry may be unreachable for a while, or a large image is being pulled again
    Problem.QUOTA: inf,  # other pods end
    Problem.VOLUME: inf,  # a volume is detached from another node within about six minutes
    Problem.NO_NODE: inf,  # a node may be on its way
}


@dataclass(frozen=True)
class StartProblem:
    """What keeps a pod from starting."""

    problem: Problem
    text: str  # one line: what, and what to do about it


class StartWatch:
    """Watches pods until they have started, prints their state when it changes, and decides when waiting is pointless."""

    def __init__(self, subject: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to wait.

        Args:
            subject: what is waited for, such as a Deployment's name.
            clock: returns seconds.
        """
        self._subject, self._clock = subject, clock
        self._line = WaitingLine(clock)
        self._first: dict[Problem, float] = {}
        self._last: dict[Problem, float] = {}

    def will_never_start(self, pods: Iterable[Any], events: Iterable[Any] = (), not_created: str = "") -> str:
        """Print the state of the pods if it has changed, or every half minute; return why waiting is pointless, or "".

        Args:
            pods: as the API returns them.
            events: about these pods.
            not_created: why a controller cannot create a pod, as `why_not_created` returns it.
        """
        now = self._clock()
        found = start_problems(pods, events, not_created)
        self.report(found[0].text if found else "")
        for problem in {one.problem for one in found}:
            if now - self._last.get(problem, -inf) > SAME_PROBLEM_SECONDS:
                self._first[problem] = now
            self._last[problem] = now
        # Older kubelets report the error of a pull for a moment only, and then a back-off without it.
        lasts = now - self._last.get(Problem.IMAGE, -inf) <= SAME_PROBLEM_SECONDS
        if lasts and any(one.problem is Problem.IMAGE_PULL for one in found):
            self._last[Problem.IMAGE] = now
        return next((one.text for one in found if now - self._first[one.problem] >= PATIENCE_SECONDS[one.problem]), "")

    def report(self, state: str) -> None:
        """Print a state, such as why a pod waits, if it has changed or half a minute has passed."""
        self._line.report(f"{self._subject}: {state}" if state else self._subject)


def why_not_started(pods: Iterable[Any], events: Iterable[Any] = (), not_created: str = "") -> str:
    """Return in one line why pods do not start; empty if they run, or if nothing is wrong yet."""
    found = start_problems(pods, events, not_created)
    return found[0].text if found else ""


def start_problems(pods: Iterable[Any], events: Iterable[Any] = (), not_created: str = "") -> list[StartProblem]:
    """Return what keeps pods from starting, the most serious first.

    Args:
        pods: as the API returns them.
        events: about these pods.
        not_created: why a controller cannot create a pod, as `why_not_created` returns it.
    """
    found = [problem for pod in pods for problem in _of_pod(pod)]
    if not_created:
        kind = Problem.QUOTA if "exceeded quota" in not_created else Problem.NOT_CREATED
        found.append(StartProblem(kind, f"no pod can be created: {_one_line(not_created)}"))
    if not found:
        found = _of_events(events)
    order = list(PATIENCE_SECONDS)
    return sorted(found, key=lambda one: order.index(one.problem))


def why_not_created(deployment: Any) -> str:
    """Return why a Deployment cannot create a pod, such as a quota that is used up; empty if it can."""
    for condition in deployment.status.conditions or []:
        if condition.type == "ReplicaFailure" and condition.status == "True":
            return str(condition.message)
    return ""


def why_unschedulable(pod: Any) -> str | None:
    """Return why no node can run a pod, in the scheduler's words; None if the scheduler has not said so."""
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False" and condition.reason == "Unschedulable":
            return str(condition.message or "")
    return None


def ended_unreported(pod: Any) -> bool:
    """Return whether a step's own container has ended while Argo's container beside it, which reports that, still runs."""
    states = {one.name: one.state for one in pod.status.container_statuses or []}
    main, executor = states.get("main"), states.get("wait")
    return bool(main and main.terminated and executor and executor.running)


def why_not_ready(pods: list[Any], events: Iterable[Any] = (), not_created: str = "") -> str:
    """Return in one line why pods are not ready; never empty."""
    if why := why_not_started(pods, events, not_created):
        return why
    if not pods:
        return "it has no pod"
    status = pods[0].status
    for container in _statuses(pods[0]):
        for state in (container.state, container.last_state):
            found = state and (state.waiting or state.terminated)
            if found and (found.reason or "") not in (*STARTING_REASONS, "Completed"):
                return f"container {container.name}: {found.reason} {_one_line(found.message or '')}".strip()
    unmet = [c.message for c in status.conditions or [] if c.status != "True" and c.message]
    return unmet[0] if unmet else f"its pod is {status.phase}"


def pod_events(core: Any, namespace: str, pods: Iterable[Any]) -> list[Any]:
    """Return the Events about pods whose containers have not been created, oldest first; none if the account may not list them.

    Args:
        core: the client of Kubernetes' core kinds.
        namespace: of the pods.
        pods: as the API returns them.

    Raises:
        UserError: the API server cannot be reached.
    """
    found: list[Any] = []
    for pod in pods:
        created = [c for c in _statuses(pod) if not (c.state and c.state.waiting)]
        if pod.status.phase != "Pending" or not pod.spec.node_name or created:
            continue
        selector = f"involvedObject.kind=Pod,involvedObject.uid={pod.metadata.uid}"
        with suppress(ForbiddenError), api_errors():
            found += core.list_namespaced_event(namespace, field_selector=selector).items
    return sorted(found, key=_time)


def _of_pod(pod: Any) -> list[StartProblem]:
    status = pod.status
    if status.phase == "Succeeded" or pod.metadata.deletion_timestamp:
        return []
    if status.phase == "Failed":
        # Pods of a Deployment that were evicted stay beside those that replace them.
        if pod.spec.restart_policy in (None, "Always"):
            return []
        ended = [text for container in _statuses(pod) if (text := _ended(container))]
        text = (ended or [_one_line(status.message or status.reason or "it has failed")])[0]
        return [StartProblem(Problem.ENDED, text)]
    found = [problem for container in _statuses(pod) if (problem := _of_container(pod, container))]
    if (why := why_unschedulable(pod)) is not None:
        found.append(StartProblem(Problem.NO_NODE, f"no node can run the pod: {_one_line(why)}"))
    return found


def _of_container(pod: Any, container: Any) -> StartProblem | None:
    waiting = container.state and container.state.waiting
    reason = (waiting.reason if waiting else "") or ""
    whole_message = (waiting.message if waiting else "") or ""
    message = _one_line(whole_message)
    subject = f"container {container.name}"
    if reason == "InvalidImageName":
        return StartProblem(
            Problem.IMAGE_NAME, f"{subject}: {reason}: {message or container.image}; correct the image's name"
        )
    if reason in PULL_REASONS:
        hint = "check its name, and that the nodes can reach its registry and may pull from it (imagePullSecrets)"
        kind = Problem.IMAGE if _has_no_image(reason, whole_message) else Problem.IMAGE_PULL
        return StartProblem(kind, f"{subject}: cannot pull the image {container.image}: {reason}: {message}; {hint}")
    if reason in CONFIGURATION_REASONS:
        if not _names_missing_object(whole_message):
            return StartProblem(Problem.CONTAINER, f"{subject}: {reason}: {message}")
        hint = f"create it in namespace {pod.metadata.namespace}"
        return StartProblem(Problem.CONFIGURATION, f"{subject}: {reason}: {message}; {hint}")
    # kubelet restarts a container that has ended once immediately, and backs off only when it ends again soon: the count of
    # restarts is no sign of it: it grows over a pod's life.
    if reason == "CrashLoopBackOff":
        text = _ended(container) or message
        hint = f"kubectl logs {pod.metadata.name} -c {container.name} -n {pod.metadata.namespace} --previous"
        return StartProblem(
            Problem.CRASH_LOOP, f"{subject}: {reason}: it has ended {container.restart_count + 1} times: {text}; {hint}"
        )
    return None


def _ended(container: Any) -> str:
    """Return how a container failed last; empty if it has not."""
    for state in (container.state, container.last_state):
        ended = state and state.terminated
        if ended and ended.exit_code:
            message = _one_line(ended.message or "")
            return f"{ended.reason or 'Error'}, exit code {ended.exit_code}{f': {message}' if message else ''}"
    return ""


def _of_events(events: Iterable[Any]) -> list[StartProblem]:
    events = list(events)
    started: dict[str, str] = {}  # when each pod last passed this stage
    for event in events:
        if event.reason in STARTED_EVENTS:
            pod = event.involved_object.uid
            started[pod] = max(started.get(pod, ""), _time(event))
    found = [
        event
        for event in events
        if event.reason in STARTING_EVENTS
        and (event.involved_object.uid not in started or _time(event) > started[event.involved_object.uid])
    ]
    if not found:
        return []
    message = _one_line(found[-1].message or "")
    kind = Problem.CONFIGURATION if _names_missing_object(message) else Problem.VOLUME
    return [StartProblem(kind, f"{found[-1].reason}: {message}")]


def _time(event: Any) -> str:
    """Return when an Event last occurred, as text that sorts by time."""
    return str(event.last_timestamp or event.event_time or "")


def _has_no_image(reason: str, message: str) -> bool:
    """Return whether an image does not exist or may not be pulled, so that pulling it again cannot help."""
    return reason == "ErrImageNeverPull" or any(text in message.lower() for text in NO_IMAGE_MESSAGES)


def _names_missing_object(message: str) -> bool:
    lower = message.lower()
    return ("secret" in lower or "configmap" in lower) and ("not found" in lower or "find key" in lower)


def _statuses(pod: Any) -> list[Any]:
    return [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:LONGEST_MESSAGE]
