"""What the doctor asks of Kubernetes' API, beyond runs and templates."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from pipelines.cluster.connection import GROUP, Connection, told
from pipelines.containers import POD_SECURITY, SECURITY

PULL_SECONDS = 120


@contextlib.contextmanager
def if_allowed() -> Iterator[None]:
    """Go on behind the block where the user may not look; any other error is the user's to know.

    Raises:
        UserError: the cluster is out of reach.
    """
    from kubernetes.client import ApiException

    with told():
        try:
            yield
        except ApiException as error:
            if error.status != 403:
                raise


def version() -> str:
    """Return Kubernetes' version."""
    from kubernetes import client

    with told():
        return str(client.VersionApi().get_code().git_version)


def has_namespace(connection: Connection) -> bool:
    """Tell whether the namespace is there; who may not look at it is taken at their word."""
    from kubernetes.client import ApiException

    with told():
        try:
            connection.core.read_namespace(connection.namespace)
        except ApiException as error:
            if error.status == 404:
                return False
            if error.status != 403:
                raise
    return True


def argo_kinds() -> set[str]:
    """Return the plural names of Argo's kinds that the API server knows."""
    from kubernetes import client
    from kubernetes.client import ApiException

    with told():
        try:
            found = client.CustomObjectsApi().get_api_resources(GROUP, "v1alpha1")
        except ApiException as error:
            if error.status == 404:
                return set()
            raise
    return {resource.name for resource in found.resources}


def user_may(connection: Connection, verb: str, resource: str, group: str) -> bool:
    """Tell whether whoever asks may do something in the namespace."""
    from kubernetes import client

    plural, _, sub = resource.partition("/")
    attributes = {
        "namespace": connection.namespace,
        "verb": verb,
        "resource": plural,
        "subresource": sub,
        "group": group,
    }
    body = {"spec": {"resourceAttributes": attributes}}
    with told():
        return bool(client.AuthorizationV1Api().create_self_subject_access_review(body).status.allowed)


def account_may(connection: Connection, account: str, verb: str, resource: str, group: str) -> bool:
    """Tell whether a service account may do something in the namespace."""
    from kubernetes import client

    space = connection.namespace
    attributes = {"namespace": space, "verb": verb, "resource": resource, "group": group}
    body = {"spec": {"user": f"system:serviceaccount:{space}:{account}", "resourceAttributes": attributes}}
    return bool(client.AuthorizationV1Api().create_subject_access_review(body).status.allowed)


def secret_keys(connection: Connection, name: str) -> set[str] | None:
    """Return the keys of a Secret, or None where there is none; the values are dropped here."""
    from kubernetes.client import ApiException

    try:
        return set(connection.core.read_namespaced_secret(name, connection.namespace).data or {})
    except ApiException as error:
        if error.status == 404:
            return None
        raise


def ready_pods(connection: Connection, service: str) -> int | None:
    """Return how many ready pods a Service has, or None where there is no such Service."""
    from kubernetes import client
    from kubernetes.client import ApiException

    space = connection.namespace
    try:
        connection.core.read_namespaced_service(service, space)
    except ApiException as error:
        if error.status == 404:
            return None
        raise
    selector = f"kubernetes.io/service-name={service}"
    slices = client.DiscoveryV1Api().list_namespaced_endpoint_slice(space, label_selector=selector).items
    return sum(bool(end.conditions.ready) for one in slices for end in one.endpoints or [])


def cannot_pull(connection: Connection, image: str) -> str:
    """Return why a pod of the image does not start, or nothing where it does."""
    body: dict[str, Any] = {
        "metadata": {"generateName": "fineline-doctor-", "labels": {"app.kubernetes.io/part-of": "fineline"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "activeDeadlineSeconds": PULL_SECONDS,
            "securityContext": POD_SECURITY.model_dump(by_alias=True, exclude_none=True),
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["true"],
                    "securityContext": SECURITY.model_dump(by_alias=True, exclude_none=True),
                }
            ],
        },
    }
    core, space = connection.core, connection.namespace
    with told():
        pod = core.create_namespaced_pod(space, body).metadata.name
    try:
        end = time.monotonic() + PULL_SECONDS
        while time.monotonic() < end:
            with told():
                status = core.read_namespaced_pod(pod, space).status
            if status.phase == "Succeeded":
                return ""
            for container in status.container_statuses or []:
                waiting = container.state.waiting
                if waiting and ("Image" in (waiting.reason or "") or "ErrImage" in (waiting.reason or "")):
                    return f"{waiting.reason}: {' '.join((waiting.message or '').split())[:300]}"
            time.sleep(0.5)
        return f"its pod has not ended after {PULL_SECONDS} s"
    finally:
        with told():
            core.delete_namespaced_pod(pod, space, grace_period_seconds=0)
