"""The layers of a decoder, whatever its family calls them."""

from pathlib import Path
from typing import Any


def decoder_layers(model: Any) -> list[tuple[str, Any]]:
    """Return the name and module of each decoder layer, in the order of the forward pass; an empty list if none are found.

    Args:
        model: a causal language model of transformers, without an adapter.
    """
    from torch import nn

    count = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return [(f"{name}.{number}", layer) for number, layer in enumerate(module)]
    return []


def decoder_layers_and_rest(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of a published model's decoder layers, and of the modules outside them that hold tensors.

    Reads the model's configuration only, not its weights.
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
