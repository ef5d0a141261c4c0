"""Loads a base model as tuning and evaluation compute with it: in 16 bits, or its linear layers in 4."""

from pathlib import Path
from typing import Any

from steps.common.machine.devices import compute_dtype


def load_base_model(folder: Path, device: str, *, in_4_bits: bool, device_map: Any = None) -> Any:
    """Return the model of a folder of weights.

    Args:
        folder: safetensors and configuration, as published on the volume.
        device: what torch calls it.
        in_4_bits: NF4 with double quantisation, as QLoRA has it (https://arxiv.org/abs/2305.14314).
        device_map: where its modules are to be, as transformers' `device_map` has it; none: all on the device.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from steps.common.model.attention import use_packed_attention

    dtype = getattr(torch, compute_dtype(device))
    # load_in_4bit alone means fp4 and fp32 compute.
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        device_map=device_map or {"": device},
        quantization_config=nf4 if in_4_bits else None,
    )
    use_packed_attention(model, device)
    return model
