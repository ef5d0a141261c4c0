"""Kubernetes' API from a step: by the pod's own account, and outside of a cluster by the kubeconfig."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from steps.common.errors import UserError


@cache
def connect() -> None:
    """Set the client up, once a process.

    Raises:
        UserError: there is neither an account nor a kubeconfig.
    """
    from kubernetes import config

    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            config.load_kube_config()
        except config.ConfigException as error:
            raise UserError(f"no cluster: {str(error).splitlines()[0].rstrip('.')}") from None


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


@cache
def api_groups() -> dict[str, str]:
    """Return the API groups that the cluster serves, each with the version that it prefers."""
    from kubernetes import client

    connect()
    with in_one_line():
        found = client.ApisApi().get_api_versions().groups
    return {group.name: group.preferred_version.version for group in found}


@contextmanager
def in_one_line() -> Iterator[None]:
    """Turn a refusal by the API server into one line; what is not found stays as it is.

    Raises:
        UserError: the account may not do that, or what it sent was refused.
    """
    import json

    from kubernetes.client import ApiException

    try:
        yield
    except ApiException as error:
        if error.status == 404 or error.status >= 500:
            raise
        try:
            message = json.loads(error.body)["message"]
        except (ValueError, KeyError, TypeError):
            message = error.reason or str(error)
        raise UserError(f"the cluster answers: {' '.join(str(message).split())}") from None
