"""Merges an adapter into its base model, quantised as it was during training.

An adapter trained on a 4-bit base has learnt to compensate for the rounding. With SmolLM2-135M its held-out loss is 0.095 on
that base, 0.104 on the unquantised one, and 5.6 if the merged weights themselves are stored in 4 bits. So each weight that
was quantised is quantised and dequantised here as it was then, the update is added in fp32, and the sum is stored in the
base model's dtype. Tensors are processed one by one: no model is built, and memory holds one shard at a time.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.common.adapter.adapter_files import merged_key, read_adapter_base
from steps.common.adapter.lora import WeightUpdate, read_weight_updates
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.storage.files import build_folder, exclusive_lock

if TYPE_CHECKING:
    import torch


def merge_into_base(base: Path, adapter: Path) -> Path:
    """Return the folder of the merged model, which is created if it does not exist."""
    folder = volumes.merged_model(merged_key(adapter))
    line = WaitingLine()
    with exclusive_lock(folder, on_wait=lambda: line.report("another process that merges the same adapter")):
        if not folder.exists():
            with build_folder(folder) as partial:
                _merge(base, adapter, partial)
    return folder


def _merge(base: Path, adapter: Path, target: Path) -> None:
    from safetensors.torch import load_file, save_file

    updates = read_weight_updates(adapter)
    quantised = set(read_adapter_base(adapter).quantised)
    remaining = set(updates)
    for shard in sorted(base.glob("*.safetensors")):
        tensors = load_file(shard)
        for key in tensors:
            layer = key.removesuffix(".weight")
            if layer in quantised:
                tensors[key] = _rounded(tensors[key])
            if layer in updates:
                tensors[key] = _updated(tensors[key], updates[layer])
                remaining.discard(layer)
        save_file(tensors, target / shard.name, metadata={"format": "pt"})
    if remaining:
        raise ValueError(
            f"the adapter has layers that the base model does not have: {', '.join(sorted(remaining)[:3])}"
        )
    for path in base.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and path.name != "manifest.json":
            shutil.copyfile(path, target / path.name)


def _rounded(weight: "torch.Tensor") -> "torch.Tensor":
    """Return a weight rounded to NF4 with double quantisation."""
    from bitsandbytes import functional

    packed, state = functional.quantize_4bit(weight.contiguous(), compress_statistics=True, quant_type="nf4")
    restored: Any = functional.dequantize_4bit(packed, state)
    return restored.to(weight.dtype)  # type: ignore[no-any-return]


def _updated(weight: "torch.Tensor", update: WeightUpdate) -> "torch.Tensor":
    """Return a weight with its update.

    With DoRA (https://arxiv.org/abs/2402.09353, equation 5) the sum gives only the direction of each output's row, and the
    row's length is the trained magnitude.
    """
    import torch

    whole = weight.float()
    rows = whole.T if update.transposed else whole
    rows = rows + update.scale * (update.lora_b.float() @ update.lora_a.float())
    if update.magnitude is not None:
        rows = rows * (update.magnitude.float() / torch.linalg.norm(rows, dim=1))[:, None]
    return (rows.T if update.transposed else rows).to(weight.dtype).contiguous()
