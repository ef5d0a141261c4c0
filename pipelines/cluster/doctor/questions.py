"""Requests that only the doctor makes."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from pipelines.cluster.connection import Connection
from pipelines.workflows.containers import POD_SECURITY, SECURITY
from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import ForbiddenError, api_errors, none_if_absent
from steps.common.kubernetes.wait import Problem, start_problems
from steps.common.kubernetes.workflow_objects import ARGO_GROUP, ARGO_VERSION
from steps.common.runtime.errors import UserError

PULL_SECONDS = 120
PROXY_SECONDS = 10
TRIAL_RESOURCES = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}


@contextlib.contextmanager
def if_allowed() -> Iterator[None]:
    """Skip the rest of the block when the user lacks a permission; raise every other error.

    Raises:
        UserError: the cluster cannot be reached.
    """
    with contextlib.suppress(ForbiddenError), api_errors():
        yield


def has_namespace(connection: Connection) -> bool:
    """Return whether the namespace exists; true if the user may not read it."""
    try:
        return none_if_absent(lambda: connection.core.read_namespace(connection.namespace)) is not None
    except ForbiddenError:
        return True


def user_may(connection: Connection, verb: str, resource: str, group: str) -> bool:
    """Return whether the user has a permission in the namespace."""
    plural, _, sub = resource.partition("/")
    attributes = {
        "namespace": connection.namespace,
        "verb": verb,
        "resource": plural,
        "subresource": sub,
        "group": group,
    }
    body = {"spec": {"resourceAttributes": attributes}}
    with api_errors():
        return bool(client.authorization().create_self_subject_access_review(body).status.allowed)


def account_may(
    connection: Connection, account: str, verb: str, resource: str, group: str, *, cluster_wide: bool = False
) -> bool:
    """Return whether a service account has a permission in the namespace, or in the whole cluster."""
    space = connection.namespace
    attributes = {"verb": verb, "resource": resource, "group": group}
    attributes |= {} if cluster_wide else {"namespace": space}
    body = {"spec": {"user": f"system:serviceaccount:{space}:{account}", "resourceAttributes": attributes}}
    with api_errors():
        return bool(client.authorization().create_subject_access_review(body).status.allowed)


def would_create_run(connection: Connection, spec: dict[str, Any]) -> bool:
    """Return whether a Workflow of the spec would be admitted; it is not created.

    Raises:
        ForbiddenError: the user may not create Workflows at all.
    """
    from kubernetes.client import ApiException

    body = {"apiVersion": f"{ARGO_GROUP}/{ARGO_VERSION}", "kind": "Workflow", "spec": spec}
    body["metadata"] = {"generateName": "fineline-doctor-"}
    place = (ARGO_GROUP, ARGO_VERSION, connection.namespace, "workflows")
    try:
        client.custom().create_namespaced_custom_object(*place, body, dry_run="All")
    except ApiException as error:
        if error.status != 422:
            with api_errors():
                raise
        return False
    return True


def secret_keys(connection: Connection, name: str) -> set[str] | None:
    """Return the keys of a Secret that have a value, or None if it does not exist; the values are discarded."""
    found = none_if_absent(lambda: connection.core.read_namespaced_secret(name, connection.namespace))
    return None if found is None else {key for key, value in (found.data or {}).items() if value}


def ready_pods(connection: Connection, service: str) -> int | None:
    """Return how many ready pods a Service selects, or None if there is no such Service."""
    space = connection.namespace
    found = none_if_absent(lambda: connection.core.read_namespaced_service(service, space))
    if found is None:
        return None
    selector = ",".join(f"{key}={value}" for key, value in (found.spec.selector or {}).items())
    with api_errors():
        pods = connection.core.list_namespaced_pod(space, label_selector=selector).items
    return sum(any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or []) for pod in pods)


def refuses_name(connection: Connection, service: str, port: int) -> bool:
    """Return whether MLflow rejects the host name by which the steps call it.

    The API server's proxy passes the Host header on unchanged. Where the proxy does not reach the pods the answer is false.
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
    except ApiException as error:  # MLflow's answer, not the API server's
        return error.status == 403 and "Invalid Host header" in str(error.body)
    except HTTPError:
        return False
    return False


def cannot_pull(connection: Connection, image: str, pull_secrets: list[dict[str, str]]) -> str:
    """Return why a pod of the image does not start; empty if it does.

    Args:
        connection: to the cluster.
        image: of the pod.
        pull_secrets: its imagePullSecrets.
    """
    body: dict[str, Any] = {
        "metadata": {"generateName": "fineline-doctor-", "labels": {"app.kubernetes.io/part-of": "fineline"}},
        "spec": {
            "restartPolicy": "Never",
            "imagePullSecrets": pull_secrets,
            "automountServiceAccountToken": False,
            "activeDeadlineSeconds": PULL_SECONDS,
            "securityContext": POD_SECURITY.model_dump(by_alias=True, exclude_none=True),
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["true"],
                    "resources": TRIAL_RESOURCES,
                    "securityContext": SECURITY.model_dump(by_alias=True, exclude_none=True),
                }
            ],
        },
    }
    core, space = connection.core, connection.namespace
    try:
        with api_errors():
            pod = core.create_namespaced_pod(space, body).metadata.name
    except ForbiddenError:
        raise
    except UserError as error:
        return f"the test pod cannot be created: {error}"
    try:
        end, why = time.monotonic() + PULL_SECONDS, ""
        while time.monotonic() < end:
            with api_errors():
                found = core.read_namespaced_pod(pod, space)
            if found.status.phase == "Succeeded":
                return ""
            problems = start_problems([found])
            if problems and problems[0].problem is not Problem.NO_NODE:
                return problems[0].text
            why = problems[0].text if problems else ""
            time.sleep(0.5)
        return why or f"the test pod has not ended after {PULL_SECONDS} s"
    finally:
        none_if_absent(lambda: core.delete_namespaced_pod(pod, space, grace_period_seconds=0))
