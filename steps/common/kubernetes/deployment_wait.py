"""Waits until a Deployment is available, and stops early when it cannot become so."""

import time
from typing import Any

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import none_if_absent
from steps.common.kubernetes.wait import StartWatch, pod_events, why_not_created, why_not_ready
from steps.common.runtime.errors import RefusedError

POLL_SECONDS = 1.0
TEMPLATE_LABEL = "pod-template-hash"


def wait_until_available(name: str, namespace: str, selector: str, seconds: float, *, shared: bool = False) -> None:
    """Return when all replicas of a Deployment are updated and available.

    Args:
        name: of the Deployment.
        namespace: of the Deployment.
        selector: labels of its pods.
        seconds: how long to wait at most.
        shared: others use the Deployment. While a replica is available, another that cannot start does not end the wait;
            an exceeded progressDeadlineSeconds never does.

    Raises:
        RefusedError: it was not available in time, its pods cannot start, or it was deleted; the text says why.
    """
    watch, started, seen = StartWatch(name), time.monotonic(), False
    while True:
        found: Any = none_if_absent(lambda: client.apps().read_namespaced_deployment(name, namespace))
        if found is None and seen:
            raise RefusedError(f"{name} was deleted before it was ready; run it again")
        seen = found is not None
        pods = client.pods(namespace, selector)
        # Before, its status and its pods are those of an earlier template.
        current = seen and (found.status.observed_generation or 0) >= found.metadata.generation
        if current and _is_available(found):
            return
        updated = updated_pods(found, pods) if current else []
        not_created = why_not_created(found) if current else ""
        events = pod_events(client.core(), namespace, updated)
        pointless = bool(watch.will_never_start(updated, events, not_created))
        if shared:
            pointless = pointless and not found.status.available_replicas
        elif current:
            pointless = pointless or _is_late(found)
        waited = time.monotonic() - started
        if pointless or waited > seconds:
            why = why_not_ready(updated or [pod for pod in pods if _remains(pod)], events, not_created)
            raise RefusedError(f"{name} was not ready in {waited:.0f} s: {why}")
        time.sleep(POLL_SECONDS)


def updated_pods(deployment: Any, pods: list[Any]) -> list[Any]:
    """Return the pods of a Deployment's current template that are not terminating.

    Without the permission to list ReplicaSets, the current template is that of the newest pod, if there is an updated one.

    Args:
        deployment: whose status is current.
        pods: all pods of the Deployment, read after it.
    """
    if not pods or not deployment.status.updated_replicas:
        return []
    newest = _template(max(pods, key=lambda pod: pod.metadata.creation_timestamp))
    return [pod for pod in pods if _remains(pod) and _template(pod) == newest]


def _is_available(deployment: Any) -> bool:
    status, wanted = deployment.status, deployment.spec.replicas
    return bool((status.available_replicas or 0) >= wanted and (status.updated_replicas or 0) >= wanted)


def _is_late(deployment: Any) -> bool:
    """Return whether a Deployment has exceeded its progressDeadlineSeconds."""
    return any(one.type == "Progressing" and one.status == "False" for one in deployment.status.conditions or [])


def _template(pod: Any) -> str:
    return str((pod.metadata.labels or {}).get(TEMPLATE_LABEL, ""))


def _remains(pod: Any) -> bool:
    return not pod.metadata.deletion_timestamp
