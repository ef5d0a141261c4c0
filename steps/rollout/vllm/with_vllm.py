"""A version's Deployment where vLLM serves it: a gateway to the base server that has its adapter, or vLLM in its own pod."""

from pathlib import Path

from steps.common.handover.resolved import Resolved
from steps.common.runtime import cluster_settings
from steps.rollout.checks import server_needs
from steps.rollout.pods.version_objects import MODELS, Serving, model_mount
from steps.rollout.vllm import base_server, vllm_container


def with_vllm(serving: Serving, resolved: Resolved, base: Path, adapter: Path, read_bytes_a_second: float) -> Serving:
    """Return the version as vLLM serves it; an adapter is on its base server by then.

    Args:
        serving: the version as transformers would serve it.
        resolved: the recipe, and what it was resolved to.
        base: folder of the base model.
        adapter: folder of the adapter.
        read_bytes_a_second: of the volume that vLLM reads from, as measured.

    Raises:
        UserError: vLLM would not take the adapter.
        RefusedError: the base server does not become ready, or does not load it.
    """
    served, upstream = resolved.serving_plan, serving.upstream
    if served.form == "adapter":
        host, model = base_server.brought(
            resolved, serving.version, base, adapter, upstream.adapter_sha256, read_bytes_a_second
        )
        at_base = upstream.model_copy(update={"host": host, "port": vllm_container.PORT, "model": model})
        return serving.model_copy(update={"base_server": host, "upstream": at_base})
    weights = 2 * resolved.model.architecture.parameters
    ready = server_needs.ready_seconds(weights, read_bytes_a_second, vllm_container.BEGIN_SECONDS)
    folder, answer_seconds = f"{MODELS}/{serving.name}", serving.rules.answer_seconds
    start = vllm_container.command(served, folder, serving.name, upstream.host, answer_seconds)
    mounts = [model_mount(serving.name, serving.sub_path)]
    return serving.model_copy(
        update={
            "server": vllm_container.container(served, cluster_settings.vllm_image(), start, mounts, weights),
            "additions": vllm_container.pod_additions(served),
            "volumes": [vllm_container.shared_memory()],
            "replicas": served.replicas,
            "ready_seconds": max(serving.ready_seconds, ready),
        }
    )
