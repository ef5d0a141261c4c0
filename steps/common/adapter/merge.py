"""Merges an adapter into its base, as the base was while the adapter was learnt.

An adapter learnt on a base in 4 bits has learnt to make up for its rounding: on the unrounded base it is worse (held-out
loss 0.104 against 0.095 with SmolLM2-135M), and merged into the 4-bit weights themselves it is destroyed (5.6). So each
weight that was quantised is quantised and dequantised here as it was there, the adapter added in fp32, the sum kept in
the base's own type. Tensor by tensor: no model is built, and the memory it takes is a shard's.
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
    """Return a folder with the merged model, made when it is not there."""
    folder = volumes.merged_model(merged_key(adapter))
    line = WaitingLine()
    with exclusive_lock(folder, on_wait=lambda: line.report("the process that merges the same adapter")):
        if not folder.exists():
            with build_folder(folder) as partial:
                _merge(base, adapter, partial)
    return folder


def _merge(base: Path, adapter: Path, target: Path) -> None:
    from safetensors.torch import load_file, save_file

    changes = read_weight_updates(adapter)
    quantised = set(read_adapter_base(adapter).quantised)
    left = set(changes)
    for shard in sorted(base.glob("*.safetensors")):
        tensors = load_file(shard)
        for key in tensors:
            layer = key.removesuffix(".weight")
            if layer in quantised:
                tensors[key] = _rounded(tensors[key])
            if layer in changes:
                tensors[key] = _changed(tensors[key], changes[layer])
                left.discard(layer)
        save_file(tensors, target / shard.name, metadata={"format": "pt"})
    if left:
        raise ValueError(f"the adapter has layers that the base has not: {', '.join(sorted(left)[:3])}")
    for path in base.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and path.name != "manifest.json":
            shutil.copyfile(path, target / path.name)


def _rounded(weight: "torch.Tensor") -> "torch.Tensor":
    """Return the weight as NF4 with double quantisation keeps it."""
    from bitsandbytes import functional

    packed, state = functional.quantize_4bit(weight.contiguous(), compress_statistics=True, quant_type="nf4")
    restored: Any = functional.dequantize_4bit(packed, state)
    return restored.to(weight.dtype)  # type: ignore[no-any-return]


def _changed(weight: "torch.Tensor", change: WeightUpdate) -> "torch.Tensor":
    """Return the weight with what was learnt.

    With DoRA (https://arxiv.org/abs/2402.09353, equation 5) each output's row has the learnt length, and the sum its
    direction alone.
    """
    import torch

    whole = weight.float()
    rows = whole.T if change.transposed else whole
    rows = rows + change.scale * (change.up.float() @ change.down.float())
    if change.magnitude is not None:
        rows = rows * (change.magnitude.float() / torch.linalg.norm(rows, dim=1))[:, None]
    return (rows.T if change.transposed else rows).to(weight.dtype).contiguous()
