"""Brings a version to a base server: the one that runs, without a restart, or a new one where that cannot take it."""

import time
from pathlib import Path
from typing import Any

from steps.common.handover.resolved import Resolved
from steps.common.kubernetes import api as kubernetes
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import RefusedError
from steps.common.runtime.progress import Progress, say
from steps.rollout.pods.model_objects import APPLY, MANAGER, why_not_ready
from steps.rollout.pods.version_objects import UPSTREAM_LABEL
from steps.rollout.vllm import vllm_container
from steps.rollout.vllm.adapter_folder import adapter_name, check, published_adapter
from steps.rollout.vllm.autoscale import autoscaler
from steps.rollout.vllm.base_objects import (
    BASE_LABEL,
    SERVED,
    SERVER_LABEL,
    BaseServer,
    deployment,
    differs,
    disruption_budget,
    service,
)
from steps.rollout.vllm.exchange import exchange

MERGE = "application/merge-patch+json"
# Until its version's gateway is there, another model's rollout must not take a server for unused: seconds since 1970.
WANTED_UNTIL = "fineline.dev/wanted-until"
ROLLOUT_SECONDS = 2 * 3600  # the longest rollout
PLURALS = {
    "Deployment": "deployments",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "ScaledObject": "scaledobjects",
}


def brought(
    resolved: Resolved, version: int, base: Path, adapter: Path, digest: str, read_bytes_a_second: float
) -> tuple[str, str]:
    """Have a base server answer to the version, every replica of it.

    Args:
        resolved: the recipe, and what it was resolved to.
        version: the registered version.
        base: folder of the base model.
        adapter: folder of the adapter.
        digest: hash of the adapter's weights.
        read_bytes_a_second: of the volume that holds the base, as measured.

    Returns:
        The base server's name, which is its Service's, and the name to which it answers with the version.

    Raises:
        UserError: vLLM would not take the adapter.
        RefusedError: a replica does not; what was served before is not touched.
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
    name = adapter_name(resolved.recipe.name, version, digest)
    check(adapter, name, wanted.served.rank)
    published_adapter(adapter, name, wanted.path)
    there = running(wanted.digest)
    server = chosen(there, wanted)
    if server.name in {one.name for one in there}:
        _keep(server)
    else:
        _start(server)
    exchange(_replicas(server), name, server.name)
    return server.name, name


def chosen(there: list[BaseServer], wanted: BaseServer) -> BaseServer:
    """Return the base server to use: one that runs and can take the adapter, else the one that is wanted.

    A server that is used again keeps what it was started with; only the number of its replicas may rise.
    """
    for one in there:
        if why := differs(one, wanted):
            say(f"{one.name} goes on, and {wanted.name} is started: {why}")
            continue
        replicas = max(one.served.replicas, wanted.served.replicas)
        say(f"{one.name} takes the adapter without a restart")
        served = one.served.model_copy(update={"replicas": replicas})
        return one.model_copy(update={"served": served, "autoscaled": wanted.autoscaled})
    return wanted


def running(digest: str) -> list[BaseServer]:
    """Return the base servers of a base model."""
    found = _deployments(f"{BASE_LABEL}={digest[:16]}")
    return [BaseServer.model_validate_json(one["metadata"]["annotations"][SERVED]) for one in found]


def stop_unused() -> None:
    """Delete the base servers that no version's gateway passes requests to, nor is about to."""
    used = {one["metadata"]["labels"][UPSTREAM_LABEL] for one in _deployments(UPSTREAM_LABEL)}
    for one in _deployments(BASE_LABEL):
        name = one["metadata"]["name"]
        if name not in used and float(one["metadata"]["annotations"].get(WANTED_UNTIL, 0)) < time.time():
            _delete(name)
            say(f"{name} is stopped: no version uses it any more")


def _start(server: BaseServer) -> None:
    """Create the server, and wait until all of its replicas are ready.

    Raises:
        RefusedError: they were not in time. The server is deleted again.
    """
    body = deployment(server)
    body["metadata"]["annotations"][WANTED_UNTIL] = _until()
    try:
        _beside(server, _apply(body)["metadata"]["uid"])
        _wait(server)
    except BaseException:
        _delete(server.name)
        raise


def _keep(server: BaseServer) -> None:
    """Keep a server that runs for one more adapter, and wait until it is ready; its pods are not touched, but for more.

    Raises:
        RefusedError: it was not ready in time. It is left as it is: others may use it.
    """
    noted = {SERVED: server.model_dump_json(), WANTED_UNTIL: _until()}
    body: dict[str, Any] = {"metadata": {"annotations": noted}}
    if not server.autoscaled:
        body["spec"] = {"replicas": server.served.replicas}
    api, place = kubernetes.custom(), ("apps", "v1", cluster_settings.namespace(), "deployments", server.name)
    with kubernetes.in_one_line():
        found = api.patch_namespaced_custom_object(*place, body, field_manager=MANAGER, _content_type=MERGE)
    _beside(server, found["metadata"]["uid"])
    _wait(server)


def _until() -> str:
    return str(round(time.time() + ROLLOUT_SECONDS))


def _beside(server: BaseServer, uid: str) -> None:
    """Make what belongs to the Deployment as it should be."""
    _apply(service(server))
    if budget := disruption_budget(server, uid):
        _apply(budget)
    kind, most, prometheus = cluster_settings.autoscaler()
    if kind:
        _apply(autoscaler(kind, server, uid, most, prometheus))


def _wait(server: BaseServer) -> None:
    space = cluster_settings.namespace()
    progress = Progress(0, f"s, waiting for {server.name}")
    started = time.monotonic()
    while (waited := time.monotonic() - started) < server.ready_seconds:
        found = _read(server.name, space)
        status, wanted = found.get("status", {}), found["spec"].get("replicas", 1)
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        if current and status.get("updatedReplicas", 0) >= wanted and status.get("availableReplicas", 0) >= wanted:
            return
        progress.update(round(waited))
        time.sleep(2)
    raise RefusedError(
        f"{server.name} was not ready in {server.ready_seconds} s: {why_not_ready(_pods(server, space))}"
    )


def _replicas(server: BaseServer) -> dict[str, str]:
    """Return the address of each ready pod, by its name."""
    found = {}
    for pod in _pods(server, cluster_settings.namespace()):
        ready = any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions or [])
        if ready and not pod.metadata.deletion_timestamp:
            host = f"[{pod.status.pod_ip}]" if ":" in pod.status.pod_ip else pod.status.pod_ip
            found[pod.metadata.name] = f"http://{host}:{vllm_container.PORT}"
    return found


def _pods(server: BaseServer, space: str) -> list[Any]:
    with kubernetes.in_one_line():
        selector = f"{SERVER_LABEL}={server.name}"
        return list(kubernetes.core().list_namespaced_pod(space, label_selector=selector).items)


def _deployments(selector: str) -> list[dict[str, Any]]:
    with kubernetes.in_one_line():
        api, space = kubernetes.custom(), cluster_settings.namespace()
        found = api.list_namespaced_custom_object("apps", "v1", space, "deployments", label_selector=selector)
    return list(found["items"])


def _read(name: str, space: str) -> dict[str, Any]:
    with kubernetes.in_one_line():
        found: dict[str, Any] = kubernetes.custom().get_namespaced_custom_object(
            "apps", "v1", space, "deployments", name
        )
    return found


def _apply(body: dict[str, Any]) -> dict[str, Any]:
    """Create an object or make it as given, by server-side apply; what others set of it, as its replicas, stays."""
    name, space = body["metadata"]["name"], cluster_settings.namespace()
    how = {"field_manager": MANAGER, "force": True, "_content_type": APPLY}
    with kubernetes.in_one_line():
        if body["kind"] == "Service":
            return kubernetes.as_data(kubernetes.core().patch_namespaced_service(name, space, body, **how))
        group, _, kind_version = body["apiVersion"].partition("/")
        found: dict[str, Any] = kubernetes.custom().patch_namespaced_custom_object(
            group, kind_version, space, PLURALS[body["kind"]], name, body, **how
        )
    return found


def _delete(name: str) -> None:
    space = cluster_settings.namespace()
    kubernetes.if_there(lambda: kubernetes.core().delete_namespaced_service(name, space))
    # Its pods, its budget and its autoscaler go with it.
    kubernetes.if_there(
        lambda: kubernetes.custom().delete_namespaced_custom_object("apps", "v1", space, "deployments", name)
    )
