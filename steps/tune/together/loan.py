"""A layer's frozen weights in one buffer, which one process has and the others are lent; see `sharded`."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

ALIGNMENT = 256  # bytes: what CUDA's own allocations begin at, and products read in wide words


@dataclass(frozen=True)
class Loan:
    """The weights of a layer: views of one buffer, whose memory is there while it is owned or borrowed."""

    buffer: torch.Tensor  # uint8 (bytes)
    owner: int  # rank
    owned: bool  # by this process

    def borrow(self) -> torch.Tensor:
        """Return the buffer, with memory for the weights that come."""
        storage = self.buffer.untyped_storage()
        if not storage.nbytes():
            storage.resize_(self.buffer.numel())
        return self.buffer

    def give_back(self) -> None:
        """Free the memory, where it is only borrowed."""
        if not self.owned:
            self.buffer.untyped_storage().resize_(0)


@dataclass(frozen=True)
class _Tensor:
    """A tensor of a layer, as its owner describes it to the others."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    quantised: dict[str, torch.Tensor] | None  # of a weight in 4 bits: scales and tables, by bitsandbytes' names
    value: torch.Tensor | None  # of what each process keeps


def make_loan(layer: Any, owner: int, rank: int, device: torch.device) -> Loan:
    """Turn a layer's weights into views of one buffer; its norms and scales, small as they are, stay in every process.

    Args:
        layer: with its weights in the owner, without them (on the meta device) in the others, where they are put in place.
        owner: rank of the process that has read it.
        rank: of this process.
        device: where it computes.
    """
    described: list[Any] = [_describe(layer) if rank == owner else None]
    dist.broadcast_object_list(described, src=owner)
    if rank != owner:
        for tensor in described[0]:
            _put(layer, tensor, device)
    weights = [layer.get_parameter(tensor.name) for tensor in described[0] if tensor.value is None]
    begins, size = [], 0
    for weight in weights:
        begins.append(size)
        size += -(-weight.nbytes // ALIGNMENT) * ALIGNMENT
    buffer = torch.empty(size, dtype=torch.uint8, device=device)
    for weight, begin in zip(weights, begins, strict=True):
        place = buffer[begin : begin + weight.nbytes].view(weight.dtype).view(weight.shape)
        if rank == owner:
            place.copy_(weight.data)
        weight.data = place
    loan = Loan(buffer, owner, rank == owner)
    loan.give_back()
    return loan


def _describe(layer: Any) -> list[_Tensor]:
    found = []
    for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
        state = getattr(tensor, "quant_state", None)
        quantised = {key: value.cpu() for key, value in state.as_dict(packed=True).items()} if state else None
        lent = isinstance(tensor, torch.nn.Parameter) and (state is not None or tensor.ndim > 1)
        value = None if lent else tensor.detach().cpu()
        found.append(_Tensor(name, tuple(tensor.shape), tensor.dtype, quantised, value))
    return found


def _put(layer: Any, tensor: _Tensor, device: torch.device) -> None:
    """Put in place what the owner has described; a weight that is lent with memory for it, and nothing in that yet."""
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
    if tensor.quantised is None:
        setattr(module, attribute, torch.nn.Parameter(data, requires_grad=False))
        return
    from bitsandbytes.nn import Params4bit

    weight = Params4bit.from_prequantized(data, tensor.quantised, requires_grad=False, device=device, module=module)
    setattr(module, attribute, weight)
