"""A version that vLLM serves: with a gateway to the base server that has its adapter, or with vLLM in its own pod."""

from pathlib import Path

from steps.common.handover.resolved import Resolved
from steps.common.runtime import cluster_settings
from steps.rollout.checks import server_needs
from steps.rollout.pods.version_objects import MODELS, VersionSpec, model_mount
from steps.rollout.vllm import base_server, vllm_container


def with_vllm(
    spec: VersionSpec, resolved: Resolved, base: Path, adapter: Path, read_bytes_a_second: float
) -> VersionSpec:
    """Return the specification of a version for vLLM. If it is served as an adapter, the base server has loaded it.

    Args:
        spec: the specification for transformers.
        resolved: the resolved recipe.
        base: folder of the base model.
        adapter: folder of the adapter.
        read_bytes_a_second: measured on the volume that vLLM reads from.

    Raises:
        UserError: vLLM cannot serve the adapter.
        RefusedError: the base server does not become ready, or cannot load the adapter.
    """
    served, upstream = resolved.serving_plan, spec.upstream
    if served.form == "adapter":
        host, model = base_server.load_version(resolved, spec, base, adapter, read_bytes_a_second)
        at_base = upstream.model_copy(update={"host": host, "port": vllm_container.PORT, "model": model})
        return spec.model_copy(update={"base_server": host, "upstream": at_base})
    weights = 2 * resolved.model.architecture.parameters
    ready = server_needs.ready_seconds(weights, read_bytes_a_second, vllm_container.BEGIN_SECONDS)
    folder, answer_seconds = f"{MODELS}/{spec.name}", spec.rules.answer_seconds
    start = vllm_container.command(served, folder, spec.name, upstream.host, answer_seconds)
    mounts = [model_mount(spec.name, spec.sub_path)]
    return spec.model_copy(
        update={
            "server": vllm_container.container(served, cluster_settings.vllm_image(), start, mounts, weights),
            "additions": vllm_container.pod_additions(served),
            "volumes": [vllm_container.shared_memory()],
            "ready_seconds": max(spec.ready_seconds, ready),
        }
    )
