"""What the doctor asks of Kubernetes' API, beyond runs and templates."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from pipelines.cluster.connection import Connection, ForbiddenError, told
from pipelines.workflows.containers import POD_SECURITY, SECURITY
from steps.common.runtime.errors import UserError

PULL_SECONDS = 120
PROXY_SECONDS = 10


@contextlib.contextmanager
def if_allowed() -> Iterator[None]:
    """Go on behind the block where the user may not look; any other error is the user's to know.

    Raises:
        UserError: the cluster is out of reach.
    """
    with contextlib.suppress(ForbiddenError), told():
        yield


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


def kinds_of(group: str, version: str) -> set[str]:
    """Return the plural names of the kinds of an API group that the API server knows."""
    from kubernetes import client
    from kubernetes.client import ApiException

    with told():
        try:
            found = client.CustomObjectsApi().get_api_resources(group, version)
        except ApiException as error:
            if error.status == 404:
                return set()
            raise
    return {resource.name for resource in found.resources}


def api_groups() -> dict[str, str]:
    """Return the API groups that the cluster serves, each with the version that it prefers."""
    from kubernetes import client

    with told():
        found = client.ApisApi().get_api_versions().groups
    return {group.name: group.preferred_version.version for group in found}


def cluster_objects(group: str, version: str, plural: str) -> list[dict[str, Any]]:
    """Return the objects of a kind that belongs to no namespace."""
    from kubernetes import client

    return list(client.CustomObjectsApi().list_cluster_custom_object(group, version, plural)["items"])


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


def account_may(
    connection: Connection, account: str, verb: str, resource: str, group: str, *, cluster_wide: bool = False
) -> bool:
    """Tell whether a service account may do something in the namespace, or with what belongs to none."""
    from kubernetes import client

    space = connection.namespace
    attributes = {"verb": verb, "resource": resource, "group": group}
    attributes |= {} if cluster_wide else {"namespace": space}
    body = {"spec": {"user": f"system:serviceaccount:{space}:{account}", "resourceAttributes": attributes}}
    return bool(client.AuthorizationV1Api().create_subject_access_review(body).status.allowed)


def secret_keys(connection: Connection, name: str) -> set[str] | None:
    """Return the keys of a Secret that have a value, or None where there is none; the values are dropped here."""
    from kubernetes.client import ApiException

    try:
        data = connection.core.read_namespaced_secret(name, connection.namespace).data or {}
        return {key for key, value in data.items() if value}
    except ApiException as error:
        if error.status == 404:
            return None
        raise


def ready_pods(connection: Connection, service: str) -> int | None:
    """Return how many ready pods a Service has, or None where there is no such Service."""
    from kubernetes.client import ApiException

    space = connection.namespace
    try:
        chosen = connection.core.read_namespaced_service(service, space).spec.selector or {}
    except ApiException as error:
        if error.status == 404:
            return None
        raise
    selector = ",".join(f"{key}={value}" for key, value in chosen.items())
    pods = connection.core.list_namespaced_pod(space, label_selector=selector).items
    return sum(any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or []) for pod in pods)


def refuses_name(connection: Connection, service: str, port: int) -> bool:
    """Tell whether MLflow answers that it does not know the name by which the steps call it.

    The API server hands the Host header on as it was given. Where it is not let through to the pods, nothing is known.
    """
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        connection.core.connect_get_namespaced_service_proxy_with_path(
            f"{service}:{port}",
            connection.namespace,
            "api/2.0/mlflow/experiments/search",
            _headers={"Host": service},
            _request_timeout=PROXY_SECONDS,
        )
    except ApiException as error:
        return error.status == 403 and "Invalid Host header" in str(error.body)
    except HTTPError:
        return False
    return False


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
    try:
        with told():
            pod = core.create_namespaced_pod(space, body).metadata.name
    except ForbiddenError:
        raise
    except UserError as error:
        return f"no pod could try it: {error}"
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
