"""The base with an adapter on it, ready to be tuned."""

from pathlib import Path
from typing import Any

from presets.memory import Activations
from recipes.tuning import Tune
from steps.common.runtime.errors import UserError
from steps.tune.together.base_weights import BaseWeights, Whole


def load_adapted_model(
    folder: Path,
    tune: Tune,
    device: str,
    *,
    activations: Activations,
    targets: list[str] | None = None,
    base: BaseWeights | None = None,
) -> tuple[Any, list[str]]:
    """Load the base, in NF4 or unquantised, and put a new adapter on it.

    Args:
        folder: of the published model.
        tune: method, rank and the rest.
        device: "cpu" or "cuda".
        activations: whether they are kept for the backward pass, recomputed in it, or that with inputs offloaded.
        targets: the linear layers that get an adapter where the recipe names none; none: all but the head.
        base: where its weights are to lie; none: whole in this process.

    Returns:
        The PEFT model, and the names of the base's layers that are quantised.

    Raises:
        UserError: `tune.targets` names no layer of this model, or its head, or none of its layers can be quantised; or
            they cannot be compiled here.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    from steps.common.model.chunked_head import chunk_head
    from steps.tune.compiled import check_compiler, compile_layers

    if tune.compile:
        check_compiler()
    torch.manual_seed(tune.seed)
    model = (base or Whole()).load(folder, device, in_4_bits=tune.method == "qlora")
    quantised = _quantised(model)
    if tune.method == "qlora" and not quantised:
        raise UserError(
            "tune.method: none of this model's layers can be quantised (transformers quantises Linear itself alone); "
            "set tune.method=lora"
        )
    chunk_head(model)
    if activations != "kept":
        model.activation_checkpointing_enable({"use_reentrant": False}, offload=activations == "offloaded")
        model.enable_input_require_grads()
    config = LoraConfig(
        r=tune.rank,
        lora_alpha=tune.alpha,
        lora_dropout=tune.dropout,
        use_rslora=tune.rslora,
        use_dora=tune.dora,
        target_modules=tune.targets or targets or "all-linear",
        task_type="CAUSAL_LM",
    )
    try:
        model = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"tune.targets: {str(error).splitlines()[0]}") from None
    _check_targets(model)
    # In bf16, AdamW's updates are lost to rounding: at a rate of 2e-4 every fourth, at 1e-5 nineteen of twenty. And
    # `prepare_model_for_kbit_training` is not called: it would put embedding, head and residual stream into fp32 and
    # double the memory of the checkpoints.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if tune.compile:
        compile_layers(model, device)
    return model, quantised


def _check_targets(model: Any) -> None:
    """Refuse an adapter on embedding or head: tied they are one weight, and neither can be merged or served."""
    from peft.tuners.lora import LoraLayer

    base = model.get_base_model()
    ends = {id(getattr(end, "base_layer", end)) for end in (base.get_input_embeddings(), base.get_output_embeddings())}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and id(module.get_base_layer()) in ends:
            layer = name.removeprefix("base_model.model.")
            raise UserError(
                f"tune.targets: {layer} is the model's embedding or head, which gets no adapter; name linear layers of its "
                "blocks, or none for all of them"
            )


def _quantised(model: Any) -> list[str]:
    from bitsandbytes.nn import Linear4bit

    names = []
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            names.append(name)
            # bitsandbytes 0.50.2 repacks the weight at the first forward pass in eval mode, on processors with
            # AVX512-BF16, and from then on uses a product without a backward pass: the gradients are silently wrong.
            module.support_avx512bf16_for_cpu = False
    return names
