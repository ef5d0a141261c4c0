"""Waits until a Deployment is available, and stops early when it cannot become so."""

import time

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import api_errors, none_if_absent
from steps.common.kubernetes.wait import StartWatch, pod_events, why_not_created, why_not_ready
from steps.common.runtime.errors import RefusedError

POLL_SECONDS = 1.0


def wait_until_available(name: str, namespace: str, selector: str, seconds: float) -> None:
    """Return when all replicas of a Deployment are updated and available.

    Args:
        name: of the Deployment.
        namespace: of the Deployment.
        selector: labels of its pods.
        seconds: how long to wait at most.

    Raises:
        RefusedError: it was not available in time, or its pods cannot start; the text says why.
    """
    watch, started = StartWatch(name), time.monotonic()
    while True:
        found = none_if_absent(lambda: client.apps().read_namespaced_deployment(name, namespace))
        with api_errors():
            pods = client.core().list_namespaced_pod(namespace, label_selector=selector).items
        pods = [pod for pod in pods if not pod.metadata.deletion_timestamp]
        late, not_created = False, ""
        if found is not None:
            status, wanted = found.status, found.spec.replicas
            current = (status.observed_generation or 0) >= found.metadata.generation
            if current and (status.available_replicas or 0) >= wanted and (status.updated_replicas or 0) >= wanted:
                return
            late = current and any(c.type == "Progressing" and c.status == "False" for c in status.conditions or [])
            not_created = why_not_created(found)
        events = pod_events(client.core(), namespace, pods)
        waited = time.monotonic() - started
        if watch.will_never_start(pods, events, not_created) or late or waited > seconds:
            why = why_not_ready(pods, events, not_created)
            raise RefusedError(f"{name} was not ready in {waited:.0f} s: {why}")
        time.sleep(POLL_SECONDS)
