"""Loads a version's adapter on a base server: on the running one without a restart, or on a new one if that cannot take it."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from steps.common.handover.resolved import Resolved
from steps.common.kubernetes import client
from steps.common.kubernetes.deployment_wait import wait_until_available
from steps.common.kubernetes.owned_objects import OwnedObjects
from steps.common.kubernetes.owner import ForeignObjectError
from steps.common.kubernetes.resource import DEPLOYMENTS, SERVICES
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import RefusedError
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.weights import store
from steps.rollout.pods import object_names
from steps.rollout.pods.object_names import SERVER_LABEL
from steps.rollout.pods.version_objects import UPSTREAM_LABEL, VersionSpec
from steps.rollout.vllm import vllm_container
from steps.rollout.vllm.adapter_folder import check, published_adapter
from steps.rollout.vllm.autoscale import autoscaler
from steps.rollout.vllm.base_objects import (
    BASE_LABEL,
    SERVED,
    BaseServer,
    deployment,
    differs,
    disruption_budget,
    found_server,
    other_tools,
    served,
    service,
)
from steps.rollout.vllm.load_adapter import load_on_replicas

# Until the version's gateway exists, another model's rollout must not delete its server as unused. Seconds since 1970.
WANTED_UNTIL = "fineline.dev/wanted-until"
LOADING_SECONDS = 2 * 3600  # to load the adapter on every replica and to create the gateway, once the server is ready


def load_version(
    resolved: Resolved, spec: VersionSpec, base: Path, adapter: Path, read_bytes_a_second: float
) -> tuple[str, str]:
    """Load the version on every replica of a base server.

    Args:
        resolved: the recipe, and what it was resolved to.
        spec: the version.
        base: folder of the base model.
        adapter: folder of the adapter.
        read_bytes_a_second: of the volume that holds the base, as measured.

    Returns:
        The name of the base server and of its Service, and the model name under which it serves the version.

    Raises:
        UserError: vLLM cannot serve the adapter.
        RefusedError: a replica does not load it; what is served already is not affected.
    """
    autoscale, _, _ = cluster_settings.autoscaler()
    wanted = BaseServer(
        digest=resolved.model.digest,
        image=cluster_settings.vllm_image(),
        served=resolved.serving_plan,
        weight_bytes=sum(path.stat().st_size for path in base.glob("*.safetensors")),
        read_bytes_a_second=read_bytes_a_second,
        answer_seconds=resolved.recipe.serve.answer_seconds,
        one_node=cluster_settings.one_node(),
        autoscaled=bool(autoscale),
    )
    name = spec.full_name  # vLLM caches adapters by name: it contains the version's digest
    check(adapter, name, wanted.served.rank)
    published_adapter(adapter, name, wanted.path)
    existing = running(wanted.digest)
    server = chosen(existing, wanted)
    if server.name in {one.name for one in existing}:
        _reserve(server)
    else:
        _start(server)
    store.hold_served(volumes.published_model(server.digest))
    load_on_replicas(_replicas(server), name, server.name)
    return server.name, name


def chosen(existing: list[BaseServer], wanted: BaseServer) -> BaseServer:
    """Return the base server to use: a running one that can take the adapter, else the wanted one.

    A running server keeps its settings; only its number of replicas may rise.
    """
    for one in existing:
        if why := differs(one, wanted):
            say(f"{one.name} cannot take the adapter ({why}); it keeps running, and {wanted.name} is started beside it")
            continue
        replicas = max(one.served.replicas, wanted.served.replicas)
        say(f"{one.name} loads the adapter without a restart")
        if told := other_tools(one, wanted):
            say(told)
        served = one.served.model_copy(update={"replicas": replicas})
        return one.model_copy(update={"served": served, "autoscaled": wanted.autoscaled})
    return wanted


def running(digest: str) -> list[BaseServer]:
    """Return the base servers of a base model."""
    found = _deployments(f"{BASE_LABEL}={digest[:16]}")
    return [found_server(one["metadata"]["annotations"][SERVED], one["metadata"]["name"]) for one in found]


def stop_unused() -> None:
    """Delete the base servers that no version's gateway uses, or is about to use."""
    used = {one["metadata"]["labels"][UPSTREAM_LABEL] for one in _deployments(UPSTREAM_LABEL)}
    for one in _deployments(BASE_LABEL):
        name = one["metadata"]["name"]
        if name not in used and float(one["metadata"]["annotations"].get(WANTED_UNTIL, 0)) < time.time():
            _delete(name)
            say(f"{name} has been deleted: no version uses it any more")


def _start(server: BaseServer) -> None:
    """Create the server and wait until all its replicas are ready.

    Raises:
        RefusedError: they were not ready in time, or cannot start. The server is deleted again.
    """
    body = deployment(server)
    body["metadata"]["annotations"][WANTED_UNTIL] = _until(server)
    objects = _objects(server.name)
    found = objects.apply(body)
    try:
        _apply_companions(server, found["metadata"]["uid"])
        _wait(server)
    except BaseException:
        _delete(server.name)
        raise


def _reserve(server: BaseServer) -> None:
    """Reserve a running server for one more adapter, add replicas if needed, and wait until they are ready.

    Raises:
        RefusedError: they were not ready in time, or cannot start. The server is not deleted: others may use it.
    """
    annotations = {SERVED: served(server), WANTED_UNTIL: _until(server)}
    body: dict[str, Any] = {"metadata": {"annotations": annotations}}
    if not server.autoscaled:
        body["spec"] = {"replicas": server.served.replicas}
    found = _objects(server.name).patch(DEPLOYMENTS, server.name, body)
    if found is None:
        raise RefusedError(
            f"{server.name} was deleted by another rollout before it could load the adapter; run it again"
        )
    _apply_companions(server, found["metadata"]["uid"])
    _wait(server)


def _until(server: BaseServer) -> str:
    return str(round(time.time() + server.ready_seconds + LOADING_SECONDS))


def _apply_companions(server: BaseServer, uid: str) -> None:
    """Apply the Service, disruption budget and autoscaler of the server's Deployment."""
    objects = _objects(server.name)
    objects.apply(service(server))
    objects.apply(disruption_budget(server, uid))
    kind, most, prometheus = cluster_settings.autoscaler()
    if kind:
        objects.apply(autoscaler(kind, server, uid, most, prometheus))


def _wait(server: BaseServer) -> None:
    selector = f"{SERVER_LABEL}={server.name}"
    wait_until_available(server.name, cluster_settings.namespace(), selector, server.ready_seconds, shared=True)


def _replicas(server: BaseServer) -> dict[str, str]:
    """Return the address of each ready pod, by the pod's name."""
    found = {}
    for pod in _pods(server, cluster_settings.namespace()):
        ready = any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions or [])
        if ready and not pod.metadata.deletion_timestamp:
            host = f"[{pod.status.pod_ip}]" if ":" in pod.status.pod_ip else pod.status.pod_ip
            found[pod.metadata.name] = f"http://{host}:{vllm_container.PORT}"
    return found


def _pods(server: BaseServer, space: str) -> list[Any]:
    return client.pods(space, f"{SERVER_LABEL}={server.name}")


def _deployments(selector: str) -> list[dict[str, Any]]:
    return DEPLOYMENTS.list(selector, cluster_settings.namespace())


def _delete(name: str) -> None:
    objects = _objects(name)
    # Kubernetes deletes its pods, disruption budget and autoscaler with it.
    objects.delete(DEPLOYMENTS, name)
    with suppress(ForeignObjectError):
        objects.delete(SERVICES, name)


def _objects(name: str) -> OwnedObjects:
    return OwnedObjects(cluster_settings.namespace(), object_names.owner_of_base_server(name))
