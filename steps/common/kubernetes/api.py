"""Kubernetes' API from a step: by the pod's own account, and outside of a cluster by the kubeconfig."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from steps.common.runtime.errors import UserError

T = TypeVar("T")
# What passes: an API server that restarts, or has too much to do. Each request is made again for about two minutes.
PASSING = (429, 500, 502, 503, 504)
TRIES, LONGEST_PAUSE_SECONDS = 8, 30.0


class ForbiddenError(UserError):
    """The account may not do that."""


@cache
def connect() -> None:
    """Set the client up, once a process.

    Raises:
        UserError: there is neither an account nor a kubeconfig.
    """
    from kubernetes import client, config
    from urllib3 import Retry

    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            config.load_kube_config()
        except config.ConfigException as error:
            raise UserError(f"no cluster: {str(error).splitlines()[0].rstrip('.')}") from None
    configuration = client.Configuration.get_default_copy()
    # By any method: what is created twice is answered with 409, what is deleted twice with 404, and both are expected.
    configuration.retries = Retry(
        total=TRIES,
        backoff_factor=1,
        backoff_max=LONGEST_PAUSE_SECONDS,
        status_forcelist=PASSING,
        allowed_methods=None,
        raise_on_status=False,
    )
    client.Configuration.set_default(configuration)


def core() -> Any:
    """Return the client of Kubernetes' own kinds."""
    from kubernetes import client

    connect()
    return client.CoreV1Api()


def custom() -> Any:
    """Return the client of every other kind."""
    from kubernetes import client

    connect()
    return client.CustomObjectsApi()


def as_data(item: Any) -> dict[str, Any]:
    """Return an object of the client's as the API has it."""
    from kubernetes import client

    found: dict[str, Any] = client.ApiClient().sanitize_for_serialization(item)
    return found


@cache
def api_groups() -> dict[str, str]:
    """Return the API groups that the cluster serves, each with the version that it prefers."""
    from kubernetes import client

    connect()
    with in_one_line():
        found = client.ApisApi().get_api_versions().groups
    return {group.name: group.preferred_version.version for group in found}


@cache
def resources(group: str, version: str) -> frozenset[str]:
    """Return the plural names of what a version of an API group holds; none where the cluster does not serve it."""
    from kubernetes import client

    connect()
    found = if_there(lambda: client.CustomObjectsApi().get_api_resources(group, version))
    return frozenset(one.name for one in found.resources) if found else frozenset()


def leases() -> Any:
    """Return the client of Leases."""
    from kubernetes import client

    connect()
    return client.CoordinationV1Api()


def if_there(ask: Callable[[], T]) -> T | None:
    """Return what `ask` returns; None where what it asks about, or changes, or deletes, is not there.

    Raises:
        UserError: as `in_one_line`.
    """
    from kubernetes.client import ApiException

    with in_one_line():
        try:
            return ask()
        except ApiException as error:
            if error.status == 404:
                return None
            raise


@contextmanager
def in_one_line(*expected: int) -> Iterator[None]:
    """Turn what the API server refuses, and that it does not answer, into one line; what is not found stays as it is.

    Args:
        expected: statuses besides 404 that stay as they are.

    Raises:
        ForbiddenError: the account may not do that.
        UserError: what it sent was refused, or the API server has not answered for some minutes.
    """
    import json

    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        if error.status == 404 or error.status in expected:
            raise
        try:
            message = json.loads(error.body)["message"]
        except (ValueError, KeyError, TypeError):
            message = error.reason or str(error)
        kind = ForbiddenError if error.status == 403 else UserError
        raise kind(f"the cluster answers: {' '.join(str(message).split())}") from None
    except HTTPError as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"the cluster does not answer: {' '.join(str(reason).split())}") from None
