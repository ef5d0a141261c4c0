"""The update that an adapter applies to each layer's weight: LoRA and its variants, as PEFT stores them."""

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
    """The update of one weight: scale x B x A, and with DoRA a new length for each row."""

    lora_a: "torch.Tensor"  # (rank, in)
    lora_b: "torch.Tensor"  # (out, rank)
    scale: float
    magnitude: "torch.Tensor | None"  # (out), with DoRA only
    transposed: bool  # the base model's weight is (in, out), as in transformers' Conv1D


def read_weight_updates(adapter: Path) -> dict[str, WeightUpdate]:
    """Return the update of each layer, by the layer's name in the base model.

    Raises:
        UserError: the adapter has weights that cannot be merged into those of linear layers.
    """
    from safetensors.torch import load_file

    config = json.loads((adapter / CONFIG_FILE).read_text())
    tensors = load_file(adapter / WEIGHTS_FILE)
    names = [name.removesuffix(LORA_A) for name in tensors if name.endswith(LORA_A)]
    used = {name + kind for name in names for kind in (LORA_A, LORA_B, LORA_MAGNITUDE)}
    if other := sorted(set(tensors) - used):
        raise UserError(
            f"adapter {adapter}: {other[0]} cannot be merged into a linear layer's weight; use an adapter of linear layers "
            "only, without trained biases, embeddings or whole modules"
        )
    return {
        name.removeprefix(PEFT_PREFIX): WeightUpdate(
            lora_a=tensors[name + LORA_A],
            lora_b=tensors[name + LORA_B],
            scale=lora_scale(config, name.removeprefix(PEFT_PREFIX), rank=tensors[name + LORA_A].shape[0]),
            magnitude=tensors.get(name + LORA_MAGNITUDE),
            transposed=bool(config.get("fan_in_fan_out")),
        )
        for name in names
    }


def lora_scale(config: dict[str, Any], layer: str, *, rank: int) -> float:
    """Return the factor of a layer's update: alpha / rank, or alpha / sqrt(rank) with rsLoRA.

    Args:
        config: PEFT's `adapter_config.json`.
        layer: name in the base model; the first pattern of `alpha_pattern` that matches its end sets its alpha.
        rank: of this layer's matrices, which `rank_pattern` may make another one than the adapter's.
    """
    alpha = float(config["lora_alpha"])
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", layer):
            alpha = float(value)
            break
    # rsLoRA: https://arxiv.org/abs/2312.03732
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
