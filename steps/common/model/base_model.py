"""Loads a base model for tuning and evaluation: in 16 bits, or with its linear layers in 4."""

from pathlib import Path
from typing import Any

from steps.common.machine.devices import compute_dtype


def load_base_model(folder: Path, device: str, *, in_4_bits: bool, device_map: Any = None) -> Any:
    """Return the model in a folder of weights, without any adapter that lies beside it.

    Args:
        folder: safetensors and configuration, as published on the weights volume.
        device: "cpu" or "cuda".
        in_4_bits: quantise to NF4 with double quantisation, as in QLoRA (https://arxiv.org/abs/2305.14314).
        device_map: placement of the modules, as transformers takes it; None: all on `device`.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from steps.common.model.attention import use_packed_attention

    dtype = getattr(torch, compute_dtype(device))
    # load_in_4bit on its own means FP4, computed in fp32.
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
        # transformers loads an adapter that lies beside a model on top of it; told to look in a folder that does not exist, it
        # finds none.
        adapter_kwargs={"subfolder": "no-adapter"},
    )
    use_packed_attention(model, device)
    return model
