"""How the new version will be served: by which server, in which form, on which GPU, and whether that is possible."""

from dataclasses import dataclass

from presets.gpu_preset import CLOUDS, GpuPreset
from presets.memory import GIB
from presets.model_preset import Vllm
from presets.serving_memory import SHARE, serving_memory
from recipes.recipe import Recipe
from steps.common.adapter.vllm_limits import MAX_LORA_RANKS, required_max_lora_rank
from steps.common.handover.resolved import KnownModel, ServingPlan
from steps.common.nodes import instance_types
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.plan.model import preset_of, resolved_chat
from steps.plan.vllm_parsers import refuse_unknown_parser


@dataclass(frozen=True)
class ServingSettings:
    """The settings of the place where the version will be served."""

    in_cluster: bool
    vllm_image: str
    instance_type: str
    instance_types_known: bool = True  # whether that place has the same GPU presets as this machine

    @classmethod
    def of_environment(cls) -> "ServingSettings":
        """Return the settings of this process."""
        return cls(
            in_cluster=cluster_settings.in_cluster(),
            vllm_image=cluster_settings.vllm_image(),
            instance_type=cluster_settings.serve_instance_type(),
        )

    @property
    def vllm(self) -> bool:
        """Whether vLLM can serve there."""
        return self.in_cluster and bool(self.vllm_image)


def plan_serving(recipe: Recipe, model: KnownModel, settings: ServingSettings) -> ServingPlan:
    """Return how the version will be served.

    Raises:
        UserError: it cannot be served as the recipe demands; the line names the key and the remedy.
    """
    serve = recipe.serve
    if not serve.enabled:
        return ServingPlan()
    if serve.runtime == "transformers" or (serve.runtime == "auto" and not settings.vllm):
        _refuse_what_needs_vllm(recipe, settings)
        if serve.replicas > 1 and not settings.in_cluster:
            say(f"serve.replicas: {serve.replicas} applies to a cluster; this machine runs one server")
        return ServingPlan(replicas=serve.replicas if settings.in_cluster else 1)
    if not settings.vllm:
        raise UserError(
            f"serve.runtime: vLLM serves in a cluster only, and the setting {cluster_settings.VLLM_IMAGE_SETTING} names no "
            "image; set it in the ConfigMap fineline, for example to vllm/vllm-openai:v0.32.0, or set "
            "serve.runtime=transformers"
        )
    if serve.gpus > 1 and model.architecture.heads % serve.gpus:
        raise UserError(
            f"serve.gpus: {model.architecture.heads} attention heads cannot be split across {serve.gpus} GPUs; "
            "choose a number that divides them"
        )
    chat = resolved_chat(recipe)
    vllm = Vllm() if "://" in recipe.model else preset_of(recipe.model)[0].vllm
    refuse_unknown_parser(chat.tool_parser, settings.vllm_image)
    rank = _adapter_rank(recipe, model, vllm)
    plan = ServingPlan(
        runtime="vllm",
        form="adapter" if rank else "merged",
        gpus=serve.gpus,
        replicas=serve.replicas,
        instance_type=serve.instance_type or settings.instance_type,
        rank=rank,
        max_adapters=serve.max_adapters if rank else 0,
        arguments=[*vllm.arguments, *chat.vllm_arguments],
    )
    sized = plan.gpus and plan.instance_type and settings.instance_types_known
    return _with_size(plan, recipe, model) if sized else plan


def in_words(plan: ServingPlan) -> str:
    """Return the plan as one line."""
    replicas = f"{plan.replicas} replicas of " if plan.replicas > 1 else ""
    if plan.runtime == "transformers":
        return f"{replicas}transformers on CPUs, merged into the base"
    form = f"adapter of rank {plan.rank} or lower beside its base" if plan.form == "adapter" else "merged into its base"
    hardware = f"{plan.gpus} x {plan.gpu or 'GPU'}" if plan.gpus else "CPUs"
    hardware += f" of {plan.instance_type}" if plan.instance_type else ""
    if not plan.gpu_bytes:
        return f"{replicas}vLLM on {hardware}, {form}"
    memory = f"{plan.needs_bytes / GIB:.1f} of {SHARE * plan.gpu_bytes / GIB:.1f} GiB"
    requests = plan.cache_tokens // plan.request_tokens
    return (
        f"{replicas}vLLM on {hardware}, {form}: {memory}, the rest caches {plan.cache_tokens} tokens, "
        f"enough for {requests} concurrent requests of {plan.request_tokens}"
    )


def _refuse_what_needs_vllm(recipe: Recipe, settings: ServingSettings) -> None:
    """Refuse what transformers cannot serve.

    Raises:
        UserError: naming the key.
    """
    if recipe.serve.form == "adapter":
        missing = f"and the setting {cluster_settings.VLLM_IMAGE_SETTING} names no image"
        remedy = "set serve.runtime=auto" if settings.vllm else missing
        raise UserError(f"serve.form=adapter: only vLLM supports this{';' if settings.vllm else ','} {remedy}")


def _adapter_rank(recipe: Recipe, model: KnownModel, vllm: Vllm) -> int:
    """Return the rank for which vLLM reserves memory if it serves the adapter as it is; 0 if it serves the merged model.

    Raises:
        UserError: the recipe demands the adapter, which vLLM cannot serve.
    """
    form, tune = recipe.serve.form, recipe.tune
    supported = vllm.adapters is not False and tune.rank <= MAX_LORA_RANKS[-1] and not tune.dora
    if form == "merged" or (form == "auto" and not supported):
        return 0
    if vllm.adapters is False:
        raise UserError(f"serve.form: vLLM cannot serve adapters of {model.name}; set serve.form=merged")
    if tune.dora:
        raise UserError(
            "serve.form: vLLM serves a DoRA adapter in merged form only; set serve.form=merged or leave it out"
        )
    try:
        return required_max_lora_rank(tune.rank)
    except ValueError as error:
        raise UserError(f"tune.rank: {error}; lower it, or set serve.form=merged") from None


def _with_size(plan: ServingPlan, recipe: Recipe, model: KnownModel) -> ServingPlan:
    """Add what fits on the GPU of the plan's instance type.

    Raises:
        UserError: the instance type is unknown or has too few GPUs, or the model and one row of the data do not fit.
    """
    preset = _instance_type(plan.instance_type)
    if preset.gpus < plan.gpus:
        raise UserError(f"serve.gpus: {plan.gpus} GPUs are requested and {preset.instance_type} has {preset.gpus}")
    memory = serving_memory(
        model.architecture, rank=plan.rank or 1, adapters=plan.max_adapters, split=max(1, plan.gpus)
    )
    tokens, row = memory.tokens(preset.gpu_bytes), recipe.data.max_tokens + recipe.evaluate.answer_tokens
    needs = memory.weights + memory.adapters + memory.overhead
    row = min(row, model.architecture.context)
    if tokens < row:
        least = needs + row * memory.cache_per_token
        raise UserError(
            f"serve.instance_type: serving {model.name} with rows of {row} tokens takes {least / GIB:.1f} GiB on each of "
            f"{plan.gpus} GPUs, and vLLM may use {SHARE * preset.gpu_bytes / GIB:.1f} GiB of {preset.instance_type}'s; "
            "choose a larger instance type, or raise serve.gpus"
        )
    return plan.model_copy(
        update={
            "gpu": preset.gpu,
            "gpu_bytes": preset.gpu_bytes,
            "needs_bytes": int(needs),
            "cache_tokens": tokens,
            "request_tokens": row,
            "longest": min(model.architecture.context, tokens),
        }
    )


def _instance_type(name: str) -> GpuPreset:
    for cloud in CLOUDS:
        for preset in instance_types.of_cloud(cloud):
            if preset.instance_type == name:
                return preset
    raise UserError(
        f"serve.instance_type: {name} is in no GPU preset; add it in a file of your own (FINELINE_GPU_PRESETS), or leave "
        "serve.instance_type out"
    )
