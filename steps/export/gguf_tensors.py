"""Converts a model's tensors to GGUF: their names, their types, and the order of their rows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.common.gguf.quantisations import embedding_quantisation
from steps.common.runtime.errors import UserError

if TYPE_CHECKING:
    import numpy
    import torch

EMBEDDINGS = ("token_embd.weight", "output.weight")
F16_MAX = 65504.0
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class GgufTensor:
    """A tensor to write."""

    file: Path  # its safetensors file
    key: str  # its name in that file
    name: str  # its name in GGUF
    shape: tuple[int, ...]  # rows first
    kind: Any  # gguf.GGMLQuantizationType
    bytes: int


def plan_tensors(folder: Path, config: Any, architecture: str, quantisation: str) -> list[GgufTensor]:
    """Return the tensors of a model, in the order in which they are written.

    Args:
        folder: of the model's safetensors.
        config: the transformers configuration.
        architecture: llama.cpp's name for it.
        quantisation: of the matrices; norms and biases stay in fp32.

    Raises:
        UserError: llama.cpp does not support a tensor.
    """
    import gguf
    from safetensors import safe_open

    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    planned = []
    for file in _files(folder):
        with safe_open(file, "pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - not a mapping
                if key.endswith("rotary_emb.inv_freq") or (key == HEAD and config.tie_word_embeddings):
                    continue
                name = names.get_name(key, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise UserError(
                        f"export.gguf: llama.cpp's architecture {architecture} has no tensor for {key}; "
                        "use export.merged=true instead"
                    )
                shape = tuple(opened.get_slice(key).get_shape())
                planned.append(_planned(file, key, name, shape, quantisation))
    return sorted(planned, key=lambda tensor: _order(tensor.name))


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    return sorted(folder.glob("*.safetensors"))


def _order(name: str) -> tuple[int, int, str]:
    """Return the sort key of a tensor: embedding first, then layer by layer, which suits readers that map the file."""
    parts = name.split(".")
    if parts[0] == "blk":
        return 1, int(parts[1]), name
    return (0 if name.startswith("token_embd") else 2), 0, name


def _planned(file: Path, key: str, name: str, shape: tuple[int, ...], quantisation: str) -> GgufTensor:
    import gguf

    quantised_to = (
        "f32" if len(shape) == 1 else embedding_quantisation(quantisation) if name in EMBEDDINGS else quantisation
    )
    kind = gguf.GGMLQuantizationType[quantised_to.upper()]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    if shape[-1] % block:  # rows of partial blocks; llama.cpp's converter falls back to f16 too
        kind = gguf.GGMLQuantizationType.F16
        block, size = gguf.GGML_QUANT_SIZES[kind]
    count = 1
    for length in shape:
        count *= length
    return GgufTensor(file, key, name, shape, kind, count // block * size)


def tensor_contents(
    planned: list[GgufTensor], config: Any, architecture: str
) -> Iterator[tuple[GgufTensor, "numpy.ndarray[Any, Any]"]]:
    """Yield each tensor with its converted values, one at a time, so that memory holds one tensor in fp32 and its result.

    Raises:
        UserError: f16 cannot hold a weight.
    """
    import gguf
    from safetensors import safe_open

    opened: dict[Path, Any] = {}
    for tensor in planned:
        if tensor.file not in opened:
            opened[tensor.file] = safe_open(tensor.file, "pt")
        values = opened[tensor.file].get_tensor(tensor.key)
        if architecture == "llama":
            values = _permuted(values, tensor.name, config)
        if tensor.kind is gguf.GGMLQuantizationType.F16 and float(values.abs().max()) > F16_MAX:
            raise UserError(f"export.gguf: f16 cannot hold {tensor.key}, which has values over {F16_MAX:g}; use bf16")
        yield tensor, _quantised(values, tensor.kind)


def _quantised(values: "torch.Tensor", kind: Any) -> "numpy.ndarray[Any, Any]":
    import gguf
    import torch

    if kind is gguf.GGMLQuantizationType.BF16:  # most models are in bf16 already, and numpy has no such type
        return values.to(torch.bfloat16).contiguous().view(torch.uint8).numpy()
    quantised: numpy.ndarray[Any, Any] = gguf.quants.quantize(values.float().contiguous().numpy(), kind)
    return quantised


def _permuted(values: "torch.Tensor", name: str, config: Any) -> "torch.Tensor":
    """Permute the rows of queries and keys for the rotary embeddings of llama.cpp's `llama`.

    transformers rotates dimension i of a head with dimension i + d/2, llama.cpp with its neighbour, as Meta's own code does.
    """
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    count = heads.get(name.split(".")[-2])
    if not count:
        return values
    halves = values.reshape(count, 2, values.shape[0] // count // 2, *values.shape[1:])
    return halves.transpose(1, 2).reshape(values.shape)
