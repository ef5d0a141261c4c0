"""Serves a version by a Deployment in this pod's namespace: beside the old one, asked, and then given the traffic."""

import time
from pathlib import Path
from typing import Any

from steps.common import cluster, volumes
from steps.common.devices import compute_type
from steps.common.errors import RefusedError
from steps.common.merge import merged
from steps.common.progress import Progress, say
from steps.common.resolved import Resolved
from steps.rollout import base_server, objects
from steps.rollout.smoke import SmokeQuestion, smoke
from steps.rollout.upstream import Upstream
from steps.rollout.with_vllm import with_vllm

MANAGER = "fineline"
APPLY = "application/apply-patch+yaml"
BYTES = {"bfloat16": 2, "float32": 4}
SPARE_BYTES = 1 << 30  # Python, torch and the answers under way, besides the weights
# kube-proxy takes a moment to move a Service; the first question after it may still meet the old version.
SETTLE_SECONDS = 3.0


def serve(
    resolved: Resolved, version: int, base: Path, adapter: Path, digest: str, questions: list[SmokeQuestion]
) -> str:
    """Serve the version; where that is done already, only make sure of it.

    Args:
        resolved: the recipe, and what it was resolved to.
        version: the registered version.
        base: folder of the base model.
        adapter: folder of the adapter.
        digest: hash of the adapter's weights.
        questions: asked before the traffic moves.

    Returns:
        The base URL of the OpenAI API inside the cluster.

    Raises:
        RefusedError: the new server failed; it is gone again, and what served before serves on.
    """
    recipe, api, space = resolved.recipe, _Api(), cluster.namespace()
    computes_in = compute_type("cpu")  # as on this pod's node, which is taken to be like those that serve
    beside = resolved.served.form == "adapter"
    serving = objects.Serving(
        name=recipe.name,
        image=cluster.serve_image(),
        sub_path="" if beside else merged(base, adapter).relative_to(volumes.runs()).as_posix(),
        memory_bytes=BYTES[computes_in] * resolved.model.architecture.parameters + SPARE_BYTES,
        ready_seconds=recipe.serve.ready_seconds,
        compute_type=computes_in,
        api_key_secret=cluster.api_key_secret(),
        one_node=cluster.one_node(),
        upstream=Upstream(
            url=f"http://127.0.0.1:{objects.SERVER_PORT}",
            version=version,
            run=resolved.run,
            base=resolved.model.uri,
            adapter_sha256=digest,
        ),
    )
    if resolved.served.runtime == "vllm":
        serving = with_vllm(serving, resolved, base, adapter)
    live = api.service(recipe.name)
    serves_already = live is not None and _serves(live, serving)
    tokens = recipe.evaluate.answer_tokens
    try:
        api.apply(objects.deployment(serving))
        api.apply(objects.version_service(serving))
        _wait(api, serving)
        smoke(_url(serving.full_name, space), recipe.name, questions, tokens)
    except BaseException:
        if not serves_already:
            api.delete_version(serving.full_name)
        raise
    if serves_already:
        say(f"{recipe.name} version {version} is served already")
        return _url(recipe.name, space)
    _move(api, serving, live, questions, _url(recipe.name, space), tokens)
    for old in api.deployments(recipe.name):
        if old != serving.full_name:
            api.delete_version(old)
            say(f"{old} is stopped")
    if beside:
        base_server.stop_unused()
    return _url(recipe.name, space)


def _move(
    api: "_Api", serving: objects.Serving, live: Any, questions: list[SmokeQuestion], url: str, tokens: int
) -> None:
    """Point the live Service at the version and ask through it; point it back when that fails."""
    api.apply(objects.live_service(serving))
    time.sleep(SETTLE_SECONDS)
    try:
        smoke(url, serving.name, questions[:1], tokens)
    except BaseException:
        if live is None:
            api.delete_service(serving.name)
        else:
            version = int(live.spec.selector[objects.VERSION_LABEL])
            kept = {key: live.metadata.annotations[key] for key in (objects.ADAPTER, objects.BASE)}
            api.apply(objects.service(serving.name, serving.name, version, kept))
        api.delete_version(serving.full_name)
        raise


def _serves(live: Any, serving: objects.Serving) -> bool:
    given = live.metadata.annotations or {}
    wanted = (str(serving.version), serving.upstream.adapter_sha256, serving.upstream.base)
    found = (live.spec.selector.get(objects.VERSION_LABEL), given.get(objects.ADAPTER), given.get(objects.BASE))
    return bool(found == wanted)


def _url(service: str, namespace: str) -> str:
    return f"http://{service}.{namespace}.svc/v1"


def _wait(api: "_Api", serving: objects.Serving) -> None:
    """Wait until the Deployment is available.

    Raises:
        RefusedError: it was not in time; the text has what its pods say.
    """
    progress = Progress(0, f"s, waiting for {serving.full_name}")
    started = time.monotonic()
    while (waited := time.monotonic() - started) < serving.ready_seconds:
        found = api.deployment(serving.full_name)
        current = found.status.observed_generation == found.metadata.generation
        if current and (found.status.available_replicas or 0) >= 1 and found.status.updated_replicas >= 1:
            return
        progress.update(round(waited))
        time.sleep(1)
    why = api.why_not_ready(serving.name, serving.version)
    raise RefusedError(f"the new server was not ready in {serving.ready_seconds} s: {why}")


class _Api:
    """The few calls of Kubernetes' API that a rollout makes, in this pod's namespace."""

    def __init__(self) -> None:
        from kubernetes import client, config

        config.load_incluster_config()
        self._apps, self._core = client.AppsV1Api(), client.CoreV1Api()
        self._space = cluster.namespace()

    def apply(self, body: dict[str, Any]) -> None:
        """Create the object or make it as given, by server-side apply."""
        patch = (
            self._apps.patch_namespaced_deployment
            if body["kind"] == "Deployment"
            else self._core.patch_namespaced_service
        )
        patch(body["metadata"]["name"], self._space, body, field_manager=MANAGER, force=True, _content_type=APPLY)

    def deployment(self, name: str) -> Any:
        return self._apps.read_namespaced_deployment(name, self._space)

    def deployments(self, model: str) -> list[str]:
        """Return the names of the model's Deployments."""
        found = self._apps.list_namespaced_deployment(self._space, label_selector=f"{objects.MODEL_LABEL}={model}")
        return [one.metadata.name for one in found.items]

    def service(self, name: str) -> Any | None:
        """Return the Service, or None.

        Raises:
            RefusedError: a Service of that name belongs to somebody else.
        """
        from kubernetes.client import ApiException

        try:
            found = self._core.read_namespaced_service(name, self._space)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        if (found.metadata.labels or {}).get(objects.MODEL_LABEL) != name:
            raise RefusedError(f"a Service {name!r} that is not this model's is there; remove it or rename the model")
        return found

    def delete_service(self, name: str) -> None:
        self._gone(self._core.delete_namespaced_service, name)

    def delete_version(self, full_name: str) -> None:
        """Delete a version's Service and Deployment, and with it its pods."""
        self.delete_service(full_name)
        self._gone(self._apps.delete_namespaced_deployment, full_name)

    def _gone(self, delete: Any, name: str) -> None:
        from kubernetes.client import ApiException

        try:
            delete(name, self._space)
        except ApiException as error:
            if error.status != 404:
                raise

    def why_not_ready(self, model: str, version: int) -> str:
        """Return in one line what the version's pods say."""
        selector = f"{objects.MODEL_LABEL}={model},{objects.VERSION_LABEL}={version}"
        pods = self._core.list_namespaced_pod(self._space, label_selector=selector).items
        if not pods:
            return "it has no pod"
        status = pods[0].status
        for container in status.container_statuses or []:
            for state in (container.state, container.last_state):
                told = state and (state.waiting or state.terminated)
                if told and told.reason:
                    return f"container {container.name}: {told.reason} {' '.join((told.message or '').split())}".strip()
        unmet = [c for c in status.conditions or [] if c.status != "True" and c.message]
        return unmet[0].message if unmet else f"its pod is {status.phase}"
