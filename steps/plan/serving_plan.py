"""How the new version will be served: by what, in which form, on which GPU, and whether that can be."""

from presets.gpu_preset import CLOUDS, GpuPreset
from presets.memory import GIB
from presets.model_preset import UnknownPresetError, Vllm, find
from presets.serving_memory import SHARE, serving_memory
from recipes.recipe import Recipe
from steps.common.adapter.vllm_limits import MAX_LORA_RANKS, required_max_lora_rank
from steps.common.handover.resolved import KnownModel, ServingPlan
from steps.common.nodes import instance_types
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError


def plan_serving(recipe: Recipe, model: KnownModel) -> ServingPlan:
    """Work out how the version will be served.

    Raises:
        UserError: it cannot be as the recipe wants it; the text says why and what to do.
    """
    wanted, image = recipe.serve, cluster_settings.vllm_image()
    if not wanted.enabled:
        return ServingPlan()
    by_vllm = wanted.runtime == "vllm" or (
        wanted.runtime == "auto" and bool(image) and bool(cluster_settings.serve_image())
    )
    if not by_vllm:
        _needs_vllm(recipe)
        return ServingPlan()
    if not (image and cluster_settings.serve_image()):
        raise UserError(
            f"serve.runtime: vLLM is served in a cluster, and the setting {cluster_settings.VLLM_IMAGE_SETTING} names no "
            "image of it; add it to the ConfigMap fineline, say vllm/vllm-openai:v0.32.0, or set serve.runtime=transformers"
        )
    known = _preset(recipe.model)
    as_adapter = wanted.form == "adapter" or (
        wanted.form == "auto"
        and known.adapters is not False
        and recipe.tune.rank <= MAX_LORA_RANKS[-1]
        and not recipe.tune.dora
    )
    if as_adapter and known.adapters is False:
        raise UserError(f"serve.form: vLLM serves no adapters of {model.name}; set serve.form=merged")
    if as_adapter and recipe.tune.dora:
        raise UserError("serve.form: vLLM serves a DoRA merged into its base alone; set serve.form=merged, or leave it")
    try:
        rank = required_max_lora_rank(recipe.tune.rank) if as_adapter else 0
    except ValueError as error:
        raise UserError(f"tune.rank: {error}; lower it, or set serve.form=merged") from None
    if wanted.gpus > 1 and model.architecture.heads % wanted.gpus:
        raise UserError(
            f"serve.gpus: {model.architecture.heads} attention heads cannot be split among {wanted.gpus} GPUs; "
            "take a number that divides them"
        )
    found = ServingPlan(
        runtime="vllm",
        form="adapter" if as_adapter else "merged",
        gpus=wanted.gpus,
        replicas=wanted.replicas,
        instance_type=wanted.instance_type or cluster_settings.serve_instance_type(),
        rank=rank,
        max_adapters=wanted.max_adapters if as_adapter else 0,
        arguments=known.arguments,
    )
    return _sized(found, recipe, model) if found.gpus else found


def in_words(found: ServingPlan) -> str:
    """Return it as one line."""
    if found.runtime == "transformers":
        return "transformers on processors, merged into the base"
    how = f"adapter of rank {found.rank} at most beside its base" if found.form == "adapter" else "merged into its base"
    where = f"{found.gpus} x {found.gpu or 'GPU'}" if found.gpus else "processors"
    where += f" of {found.instance_type}" if found.instance_type else ""
    times = f"{found.replicas} times " if found.replicas > 1 else ""
    if not found.gpu_bytes:
        return f"{times}vLLM on {where}, {how}"
    room = f"{found.needs_bytes / GIB:.1f} of {SHARE * found.gpu_bytes / GIB:.1f} GiB"
    at_once = found.cache_tokens // found.request_tokens
    return (
        f"{times}vLLM on {where}, {how}: {room}, the rest holds {found.cache_tokens} tokens, "
        f"as {at_once} requests of {found.request_tokens} at once"
    )


def _needs_vllm(recipe: Recipe) -> None:
    """Refuse what transformers cannot serve.

    Raises:
        UserError: naming the key.
    """
    asked = {"form=adapter": recipe.serve.form == "adapter", "replicas": recipe.serve.replicas > 1}
    for key, there in asked.items():
        if there:
            raise UserError(
                f"serve.{key}: vLLM alone does that, and the setting {cluster_settings.VLLM_IMAGE_SETTING} names no image of it"
            )


def _preset(reference: str) -> Vllm:
    if "://" in reference:
        return Vllm()
    try:
        return find(reference)[0].vllm
    except UnknownPresetError as error:
        raise UserError(f"model: {error}") from None


def _sized(found: ServingPlan, recipe: Recipe, model: KnownModel) -> ServingPlan:
    """Add what fits the GPU, where it is known which that is.

    Raises:
        UserError: the instance type is not known or has too few GPUs, or the model does not fit with one row of the data.
    """
    if not found.instance_type:
        return found
    preset = _instance_type(found.instance_type)
    if preset.gpus < found.gpus:
        raise UserError(f"serve.gpus: {found.gpus} are wanted and {preset.instance_type} has {preset.gpus}")
    memory = serving_memory(
        model.architecture, rank=found.rank or 1, adapters=found.max_adapters, split=max(1, found.gpus)
    )
    tokens, least = memory.tokens(preset.gpu_bytes), recipe.data.max_tokens + recipe.evaluate.answer_tokens
    needs = memory.weights + memory.adapters + memory.work
    least = min(least, model.architecture.context)
    if tokens < least:
        short = needs + least * memory.cache_a_token
        raise UserError(
            f"serve.instance_type: serving {model.name} with rows of {least} tokens takes {short / GIB:.1f} GiB of each of "
            f"{found.gpus} GPUs and vLLM may take {SHARE * preset.gpu_bytes / GIB:.1f} of {preset.instance_type}'s; "
            "take a larger one, or more serve.gpus"
        )
    return found.model_copy(
        update={
            "gpu": preset.gpu,
            "gpu_bytes": preset.gpu_bytes,
            "needs_bytes": int(needs),
            "cache_tokens": tokens,
            "request_tokens": least,
            "longest": min(model.architecture.context, tokens),
        }
    )


def _instance_type(name: str) -> GpuPreset:
    for cloud in CLOUDS:
        for preset in instance_types.of_cloud(cloud):
            if preset.instance_type == name:
                return preset
    raise UserError(
        f"serve.instance_type: {name} is in no GPU preset; add it by a file, see FINELINE_GPU_PRESETS, or leave it empty"
    )
