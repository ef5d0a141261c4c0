"""A layer's frozen weights flattened into one buffer, which one rank owns and broadcasts to the others; see `sharded_base`."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

ALIGNMENT = 256  # bytes; CUDA's own allocations are aligned to it, and matrix kernels read wide words


@dataclass(frozen=True)
class FlatLayer:
    """A layer's weights as views of one buffer. The owner's buffer is always allocated, the others' only while unsharded."""

    buffer: torch.Tensor  # uint8, one element per byte
    owner: int  # rank
    is_owned: bool  # by this process

    def unshard(self) -> torch.Tensor:
        """Return the buffer, allocated so that the owner's weights can be received into it."""
        storage = self.buffer.untyped_storage()
        if not storage.nbytes():
            storage.resize_(self.buffer.numel())
        return self.buffer

    def reshard(self) -> None:
        """Free the buffer unless this process owns it."""
        if not self.is_owned:
            self.buffer.untyped_storage().resize_(0)


@dataclass(frozen=True)
class _TensorDescription:
    """A tensor of a layer, as its owner describes it to the other ranks."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    quant_state: dict[str, torch.Tensor] | None  # of a 4-bit weight: its scales and tables, by bitsandbytes' names
    value: torch.Tensor | None  # of a tensor that every rank keeps; None for one in the flat buffer


def flatten_layer(layer: Any, owner: int, rank: int, device: torch.device) -> FlatLayer:
    """Turn a layer's weights into views of one buffer. Norms, biases and quantisation scales are small: every rank keeps them.

    Args:
        layer: loaded on its owner; on the meta device elsewhere, where its tensors are created here.
        owner: rank that has loaded the layer.
        rank: of this process.
        device: of this process.
    """
    described: list[Any] = [_describe(layer) if rank == owner else None]
    dist.broadcast_object_list(described, src=owner)
    if rank != owner:
        for tensor in described[0]:
            _materialise(layer, tensor, device)
    weights = [layer.get_parameter(tensor.name) for tensor in described[0] if tensor.value is None]
    offsets, size = [], 0
    for weight in weights:
        offsets.append(size)
        size += -(-weight.nbytes // ALIGNMENT) * ALIGNMENT
    buffer = torch.empty(size, dtype=torch.uint8, device=device)
    for weight, offset in zip(weights, offsets, strict=True):
        view = buffer[offset : offset + weight.nbytes].view(weight.dtype).view(weight.shape)
        if rank == owner:
            view.copy_(weight.data)
        weight.data = view
    flat = FlatLayer(buffer, owner, rank == owner)
    flat.reshard()
    return flat


def _describe(layer: Any) -> list[_TensorDescription]:
    found = []
    for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
        state = getattr(tensor, "quant_state", None)
        quant_state = {key: value.cpu() for key, value in state.as_dict(packed=True).items()} if state else None
        flattened = isinstance(tensor, torch.nn.Parameter) and (state is not None or tensor.ndim > 1)
        value = None if flattened else tensor.detach().cpu()
        found.append(_TensorDescription(name, tuple(tensor.shape), tensor.dtype, quant_state, value))
    return found


def _materialise(layer: Any, tensor: _TensorDescription, device: torch.device) -> None:
    """Create a tensor that the owner has described: with its value, or, for one in the flat buffer, uninitialised."""
    path, _, attribute = tensor.name.rpartition(".")
    module = layer.get_submodule(path)
    if tensor.value is not None:
        value = tensor.value.to(device)
        if attribute in module._buffers:
            module._buffers[attribute] = value
        else:
            setattr(module, attribute, torch.nn.Parameter(value, requires_grad=False))
        return
    data = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    if tensor.quant_state is None:
        setattr(module, attribute, torch.nn.Parameter(data, requires_grad=False))
        return
    from bitsandbytes.nn import Params4bit

    weight = Params4bit.from_prequantized(data, tensor.quant_state, requires_grad=False, device=device, module=module)
    setattr(module, attribute, weight)
