"""The base with an adapter on it, ready to be tuned."""

from pathlib import Path
from typing import Any

from recipes.recipe import Tune
from steps.common.devices import compute_type
from steps.common.errors import UserError


def load(base: Path, tune: Tune, device: str, *, recompute: bool) -> tuple[Any, list[str]]:
    """Load the base, in NF4 or unquantised, and put a new adapter on it.

    Args:
        base: the published model's folder.
        tune: method, rank and the rest.
        device: "cpu" or "cuda".
        recompute: whether activations are recomputed in the backward pass.

    Returns:
        The PEFT model, and the names of the base's layers that are quantised.

    Raises:
        UserError: `tune.targets` names no layer of this model.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    torch.manual_seed(tune.seed)
    dtype = getattr(torch, compute_type(device))
    # load_in_4bit alone means fp4 and fp32 compute.
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(
        base,
        dtype=dtype,
        device_map={"": device},
        quantization_config=nf4 if tune.method == "qlora" else None,
    )
    quantised = _quantised(model)
    config = LoraConfig(
        r=tune.rank,
        lora_alpha=tune.alpha,
        lora_dropout=tune.dropout,
        target_modules=tune.targets or "all-linear",
        task_type="CAUSAL_LM",
    )
    try:
        model = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"tune.targets: {str(error).splitlines()[0]}") from None
    # In bf16, AdamW's updates are lost to rounding: at a rate of 2e-4 every fourth, at 1e-5 nineteen of twenty. And
    # `prepare_model_for_kbit_training` is not called: it would put embedding, head and residual stream into fp32 and
    # double the memory of the checkpoints.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model, quantised


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
