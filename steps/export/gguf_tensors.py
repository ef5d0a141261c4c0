"""A model's tensors as GGUF has them: their names, their types, and the order of their rows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.common.gguf.quantisations import of_embeddings
from steps.common.runtime.errors import UserError

if TYPE_CHECKING:
    import numpy
    import torch

EMBEDDINGS = ("token_embd.weight", "output.weight")
WIDEST = 65504.0  # that f16 can hold
HEAD = "lm_head.weight"


@dataclass(frozen=True)
class GgufTensor:
    """A tensor that will be written."""

    file: Path  # of safetensors
    key: str  # in that file
    name: str  # in the GGUF
    shape: tuple[int, ...]  # rows first
    kind: Any  # gguf.GGMLQuantizationType
    bytes: int


def tensors(folder: Path, config: Any, architecture: str, quantisation: str) -> list[GgufTensor]:
    """Return the tensors of a model's folder, in the order in which they are written.

    Args:
        folder: safetensors.
        config: transformers' configuration of it.
        architecture: what llama.cpp calls it.
        quantisation: of the matrices; norms and biases stay in fp32.

    Raises:
        UserError: llama.cpp has no such tensor.
    """
    import gguf
    from safetensors import safe_open

    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    found = []
    for file in _files(folder):
        with safe_open(file, "pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - no mapping
                if key.endswith("rotary_emb.inv_freq") or (key == HEAD and config.tie_word_embeddings):
                    continue
                name = names.get_name(key, try_suffixes=(".weight", ".bias"))
                if name is None:
                    raise UserError(f"export.gguf: llama.cpp's {architecture} has no tensor for {key}")
                shape = tuple(opened.get_slice(key).get_shape())
                found.append(_planned(file, key, name, shape, quantisation))
    return sorted(found, key=lambda tensor: _order(tensor.name))


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    return sorted(folder.glob("*.safetensors"))


def _order(name: str) -> tuple[int, int, str]:
    """Embedding first, then layer by layer, as a reader that maps the file likes it."""
    parts = name.split(".")
    if parts[0] == "blk":
        return 1, int(parts[1]), name
    return (0 if name.startswith("token_embd") else 2), 0, name


def _planned(file: Path, key: str, name: str, shape: tuple[int, ...], quantisation: str) -> GgufTensor:
    import gguf

    wanted = "f32" if len(shape) == 1 else of_embeddings(quantisation) if name in EMBEDDINGS else quantisation
    kind = gguf.GGMLQuantizationType[wanted.upper()]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    if shape[-1] % block:  # rows are cut into blocks; where these do not fit, llama.cpp's converter takes f16 too
        kind = gguf.GGMLQuantizationType.F16
        block, size = gguf.GGML_QUANT_SIZES[kind]
    count = 1
    for length in shape:
        count *= length
    return GgufTensor(file, key, name, shape, kind, count // block * size)


def contents(
    planned: list[GgufTensor], config: Any, architecture: str
) -> Iterator[tuple[GgufTensor, "numpy.ndarray[Any, Any]"]]:
    """Give each tensor with its bytes, one at a time: memory holds one in fp32 and what becomes of it.

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
            values = _rotated(values, tensor.name, config)
        if tensor.kind is gguf.GGMLQuantizationType.F16 and float(values.abs().max()) > WIDEST:
            raise UserError(f"export.gguf: f16 cannot hold {tensor.key}, which has values over {WIDEST:g}; take bf16")
        yield tensor, _quantised(values, tensor.kind)


def _quantised(values: "torch.Tensor", kind: Any) -> "numpy.ndarray[Any, Any]":
    import gguf
    import torch

    if kind is gguf.GGMLQuantizationType.BF16:  # most models are that already, and numpy knows it not
        return values.to(torch.bfloat16).contiguous().view(torch.uint8).numpy()
    quantised: numpy.ndarray[Any, Any] = gguf.quants.quantize(values.float().contiguous().numpy(), kind)
    return quantised


def _rotated(values: "torch.Tensor", name: str, config: Any) -> "torch.Tensor":
    """Order the rows of queries and keys as llama.cpp's `llama` rotates them.

    transformers rotates a head's dimension i with i + d/2, llama.cpp with its neighbour, as Llama's own code does.
    """
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    count = heads.get(name.split(".")[-2])
    if not count:
        return values
    halves = values.reshape(count, 2, values.shape[0] // count // 2, *values.shape[1:])
    return halves.transpose(1, 2).reshape(values.shape)
