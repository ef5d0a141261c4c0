"""What an adapter's files say that each layer of its base becomes: LoRA with its variants, as PEFT writes them."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.common.adapter.adapter_files import CONFIG_FILE, LORA_A, LORA_B, LORA_MAGNITUDE, PEFT_PREFIX, WEIGHTS_FILE
from steps.common.runtime.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class WeightUpdate:
    """What is added to one weight: scale x up (out, rank) x down (rank, in)."""

    down: "torch.Tensor"
    up: "torch.Tensor"
    scale: float
    magnitude: "torch.Tensor | None"  # (out): DoRA's lengths of the rows
    transposed: bool  # the base's weight is (in, out), as in transformers' Conv1D


def read_weight_updates(adapter: Path) -> dict[str, WeightUpdate]:
    """Return the change of each layer, by the layer's name in the base.

    Raises:
        UserError: the adapter has something that cannot be written into the weights of the base's linear layers.
    """
    from safetensors.torch import load_file

    config = json.loads((adapter / CONFIG_FILE).read_text())
    tensors = load_file(adapter / WEIGHTS_FILE)
    names = [name.removesuffix(LORA_A) for name in tensors if name.endswith(LORA_A)]
    used = {name + kind for name in names for kind in (LORA_A, LORA_B, LORA_MAGNITUDE)}
    if other := sorted(set(tensors) - used):
        raise UserError(
            f"adapter {adapter}: {other[0]} cannot be merged into a linear layer's weight; take adapters of the linear "
            "layers alone, without trained biases, embeddings or whole modules"
        )
    return {
        name.removeprefix(PEFT_PREFIX): WeightUpdate(
            down=tensors[name + LORA_A],
            up=tensors[name + LORA_B],
            scale=scale(config, name.removeprefix(PEFT_PREFIX), rank=tensors[name + LORA_A].shape[0]),
            magnitude=tensors.get(name + LORA_MAGNITUDE),
            transposed=bool(config.get("fan_in_fan_out")),
        )
        for name in names
    }


def scale(config: dict[str, Any], layer: str, *, rank: int) -> float:
    """Return what a layer's product is multiplied by: alpha / rank, or alpha / sqrt(rank) with rsLoRA.

    Args:
        config: of the adapter.
        layer: its name in the base; the first pattern of `alpha_pattern` that fits its end has its alpha.
        rank: of this layer's own matrices, whatever `rank_pattern` says.
    """
    alpha = float(config["lora_alpha"])
    for pattern, own in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", layer):
            alpha = float(own)
            break
    # rsLoRA: https://arxiv.org/abs/2312.03732
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
