"""The layers of a decoder, whatever its family calls them."""

from pathlib import Path
from typing import Any


def decoder_layers(model: Any) -> list[tuple[str, Any]]:
    """Return each layer's name in the model, and the layer, in the order of the forward pass; none where they cannot be told.

    Args:
        model: a causal language model of transformers, without an adapter.
    """
    from torch import nn

    count = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return [(f"{name}.{number}", layer) for number, layer in enumerate(module)]
    return []


def weight_modules(folder: Path) -> tuple[list[str], list[str]]:
    """Return what a published model is made of: the names of its layers, and of the modules beside them that have tensors.

    From its configuration, without its weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    layers = [name for name, _ in decoder_layers(model)]
    with_tensors = [
        name
        for name, module in model.named_modules()
        if [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    ]
    return layers, [name for name in with_tensors if not any(f"{name}.".startswith(f"{layer}.") for layer in layers)]
