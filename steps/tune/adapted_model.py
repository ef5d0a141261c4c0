"""The base model with a new adapter, ready to be tuned."""

from pathlib import Path
from typing import Any

from presets.memory import Activations
from recipes.tuning import Tune
from steps.common.runtime.errors import UserError, first_line
from steps.tune.distributed.base_placement import BasePlacement, ReplicatedBase


def load_adapted_model(
    folder: Path,
    tune: Tune,
    device: str,
    *,
    activations: Activations,
    targets: list[str] | None = None,
    base: BasePlacement | None = None,
) -> tuple[Any, list[str]]:
    """Load the base model, in NF4 or unquantised, and add a new adapter.

    Args:
        folder: of the published base model.
        tune: method, rank and so on.
        device: "cpu" or "cuda".
        activations: kept for the backward pass; recomputed in it; or recomputed from inputs that are offloaded to the host.
        targets: the linear layers to adapt if the recipe names none; None or empty: all except the head.
        base: placement of the base model's weights; None: replicated.

    Returns:
        The PEFT model, and the names of the base model's quantised layers.

    Raises:
        UserError: `tune.targets` names no layer of this model, or its embedding or head; none of its layers can be
            quantised; or there is no compiler for `tune.compile`.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    from steps.common.model.chunked_head import chunk_head
    from steps.tune.layer_compilation import check_compiler, compile_layers

    if tune.compile:
        check_compiler()
    torch.manual_seed(tune.seed)
    model = (base or ReplicatedBase()).load(folder, device, in_4_bits=tune.method == "qlora")
    quantised = _prepare_quantised_layers(model)
    if tune.method == "qlora" and not quantised:
        raise UserError(
            "tune.method: none of this model's layers can be quantised (transformers quantises torch's own Linear only); set "
            "tune.method=lora"
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
        raise UserError(f"tune.targets: {first_line(error)}") from None
    _check_targets(model)
    # Adapter weights are in fp32. In bf16, AdamW's updates are rounded away: a quarter of them at a learning rate of 2e-4,
    # 19 in 20 at 1e-5. `prepare_model_for_kbit_training` would convert the embedding, the head and the residual stream to
    # fp32 too, and double the memory of the checkpointed activations.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if tune.compile:
        compile_layers(model, device)
    return model, quantised


def _check_targets(model: Any) -> None:
    """Refuse an adapter on the embedding or the head: if tied they are one weight, and neither can be merged or served."""
    from peft.tuners.lora import LoraLayer

    base = model.get_base_model()
    ends = {id(getattr(end, "base_layer", end)) for end in (base.get_input_embeddings(), base.get_output_embeddings())}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and id(module.get_base_layer()) in ends:
            layer = name.removeprefix("base_model.model.")
            raise UserError(
                f"tune.targets: {layer} is the model's embedding or head, which cannot have an adapter; name linear layers of "
                "its decoder layers, or leave it empty for all of them"
            )


def _prepare_quantised_layers(model: Any) -> list[str]:
    """Return the names of the quantised layers, each made safe to train on a CPU."""
    from bitsandbytes.nn import Linear4bit

    names = []
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            names.append(name)
            # On processors with AVX512-BF16, bitsandbytes 0.50.2 repacks the weight at the first forward pass in eval mode,
            # and from then on uses a matrix product that has no backward pass: the gradients are silently wrong.
            module.support_avx512bf16_for_cpu = False
    return names
