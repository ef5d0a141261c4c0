"""This process's connection to the Kubernetes API.

A step connects when it first calls the API: with its pod's service account, and outside a cluster with the kubeconfig. The
command connects with the kubeconfig.
"""

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

from steps.common.kubernetes.api_errors import NotFoundError, api_errors
from steps.common.runtime.errors import UserError, first_line

# The API server is restarting, or has too much to do.
RETRIED_STATUSES = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class RetryPolicy:
    """How patiently a request is repeated."""

    tries: int  # after the first
    longest_pause_seconds: float
    connect_seconds: float  # to open a connection
    # Whether a create request is repeated after its answer was lost. Safe where names are fixed: the second one is answered
    # with 409. With `generateName` it would create a second run.
    repeats_creates: bool


# About two minutes.
STEP_RETRIES = RetryPolicy(tries=8, longest_pause_seconds=30.0, connect_seconds=10.0, repeats_creates=True)
# At most 14 s: a person is waiting.
COMMAND_RETRIES = RetryPolicy(tries=2, longest_pause_seconds=2.0, connect_seconds=4.0, repeats_creates=False)
# Likewise; whatever a server creates has a fixed name.
SERVER_RETRIES = RetryPolicy(tries=2, longest_pause_seconds=2.0, connect_seconds=4.0, repeats_creates=True)


@dataclass(frozen=True)
class Context:
    """A context of the kubeconfig."""

    name: str
    namespace: str  # empty: it names none


class NoKubeconfigError(UserError):
    """There is no kubeconfig that can be used."""


class _Process:
    """What this process is connected to."""

    api_client: Any = None


def connect_with_kubeconfig(context: str = "") -> Context:
    """Connect this process as the command does.

    Args:
        context: of the kubeconfig; empty: the current one.

    Returns:
        The context that is used.

    Raises:
        NoKubeconfigError: there is none, or it has no such context.
        UserError: it cannot be read.
    """
    from kubernetes import client, config
    from yaml import YAMLError

    configuration = client.Configuration()
    try:
        contexts, current = config.list_kube_config_contexts()
        config.load_kube_config(context=context or None, client_configuration=configuration)
    except config.ConfigException as error:
        line = f"kubeconfig: {_reason(error)}; point KUBECONFIG at the kubeconfig of your cluster"
        raise NoKubeconfigError(line) from None
    except (OSError, TypeError, AttributeError, YAMLError):
        # The client reads any file, and any YAML, as if it were a kubeconfig.
        file = os.environ.get("KUBECONFIG", "~/.kube/config")
        raise UserError(f"kubeconfig: {file} is not a kubeconfig; point KUBECONFIG at that of your cluster") from None
    _use(configuration, COMMAND_RETRIES)
    chosen = next((found for found in contexts if found["name"] == context), current)
    return Context(str(chosen["name"]), str(chosen["context"].get("namespace") or ""))


def connect_as_step(policy: RetryPolicy | None = None) -> None:
    """Connect this process as a step does.

    Args:
        policy: how patiently a request is repeated; None: as in a step.

    Raises:
        UserError: there is neither a service account nor a kubeconfig.
    """
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
        configuration.proxy = None  # the API server is a Service, which no proxy is asked for
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise UserError(f"no cluster: {_reason(error)}") from None
    _use(configuration, policy or STEP_RETRIES)


def connection() -> Any:
    """Return this process's connection, an ApiClient.

    Raises:
        UserError: as `connect_as_step`.
    """
    if _Process.api_client is None:
        connect_as_step()
    return _Process.api_client


def core() -> Any:
    """Return the client of the core kinds: pods, nodes, Services."""
    from kubernetes import client

    return client.CoreV1Api(connection())


def pods(namespace: str, labels: str, fields: str = "") -> list[Any]:
    """Return the pods of a namespace that a label selector, and a field selector if there is one, selects.

    Raises:
        UserError: as `api_errors`.
    """
    with api_errors():
        return list(core().list_namespaced_pod(namespace, label_selector=labels, field_selector=fields or None).items)


def apps() -> Any:
    """Return the client of Deployments."""
    from kubernetes import client

    return client.AppsV1Api(connection())


def leases() -> Any:
    """Return the client of Leases."""
    from kubernetes import client

    return client.CoordinationV1Api(connection())


def storage() -> Any:
    """Return the client of StorageClasses."""
    from kubernetes import client

    return client.StorageV1Api(connection())


def authorization() -> Any:
    """Return the client of access reviews."""
    from kubernetes import client

    return client.AuthorizationV1Api(connection())


def user_name() -> str:
    """Return the name by which the API server knows this connection's user."""
    from kubernetes import client

    with api_errors():
        review = client.AuthenticationV1Api(connection()).create_self_subject_review({})
    return str(review.status.user_info.username)


def custom() -> Any:
    """Return the client of any kind that belongs to an API group, with objects as dictionaries."""
    from kubernetes import client

    return client.CustomObjectsApi(connection())


def as_dict(item: Any) -> dict[str, Any]:
    """Return an object of a typed client as the API has it."""
    found: dict[str, Any] = connection().sanitize_for_serialization(item)
    return found


def server_version() -> str:
    """Return the API server's version, such as v1.34.0."""
    from kubernetes import client

    with api_errors():
        return str(client.VersionApi(connection()).get_code().git_version)


@cache
def api_groups() -> dict[str, str]:
    """Return the API groups of the cluster, each with its preferred version."""
    from kubernetes import client

    with api_errors():
        found = client.ApisApi(connection()).get_api_versions().groups
    return {group.name: group.preferred_version.version for group in found}


@cache
def resources(group: str, version: str) -> frozenset[str]:
    """Return the plural names of the kinds in a version of an API group; none if the cluster does not have it."""
    try:
        with api_errors():
            found = custom().get_api_resources(group, version).resources
    except NotFoundError:
        return frozenset()
    return frozenset(one.name for one in found)


def _use(configuration: Any, policy: RetryPolicy) -> None:
    from kubernetes import client
    from urllib3 import Retry

    configuration.retries = Retry(
        total=policy.tries,
        backoff_factor=1,
        backoff_max=policy.longest_pause_seconds,
        status_forcelist=RETRIED_STATUSES,
        allowed_methods=None if policy.repeats_creates else {"GET", "PATCH", "PUT", "DELETE"},
        raise_on_status=False,
    )
    made = client.ApiClient(configuration)
    plain, limits = made.call_api, (policy.connect_seconds, None)

    # The client has no default timeout: a host that does not answer would hold each try for as long as TCP likes.
    def call_api(*arguments: Any, **named: Any) -> Any:
        return plain(*arguments, **{**named, "_request_timeout": named.get("_request_timeout") or limits})

    made.call_api = call_api
    _Process.api_client = made
    api_groups.cache_clear()
    resources.cache_clear()


def _reason(error: Exception) -> str:
    first = first_line(error).rstrip(".")
    # The client calls a file that does not exist invalid.
    return "no configuration found" if first.endswith("No configuration found") else first
