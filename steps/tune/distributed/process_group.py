"""The processes of a training, one per GPU, each of which computes its share of every optimizer step.

Each rank accumulates gradients over its own micro-batches; they are summed across ranks once per step. An adapter's
gradients are a few hundred megabytes at most, and nothing is exchanged between two micro-batches, so a rank can run out
of memory and recover without the others noticing.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

Item = TypeVar("Item")


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place among the processes that train together."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes files and logs."""
        return self.rank == 0

    def shard(self, items: Sequence[Item]) -> list[Item | None]:
        """Return this rank's items, padded with None so that every rank gets equally many."""
        own: list[Item | None] = list(items[self.rank :: self.world_size])
        return own + [None] * (-(-len(items) // self.world_size) - len(own))

    def all_reduce(self, value: torch.Tensor) -> torch.Tensor:
        """Sum a tensor across ranks, in place, and return it."""
        if self.world_size > 1:
            dist.all_reduce(value)
        return value

    def any(self, flags: Sequence[bool], device: torch.device) -> list[bool]:
        """Return, for each flag, whether any rank has set it."""
        if self.world_size == 1:
            return list(flags)
        reduced = torch.tensor(list(flags), dtype=torch.int32, device=device)
        dist.all_reduce(reduced, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in reduced.tolist()]

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sum each trainable parameter's gradient across ranks; a gradient that is missing here counts as zero."""
        if self.world_size == 1:
            return
        trainable = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in trainable:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([parameter.grad.flatten() for parameter in trainable if parameter.grad is not None])
        dist.all_reduce(flat)
        begin = 0
        for parameter in trainable:
            assert parameter.grad is not None
            count = parameter.numel()
            parameter.grad.copy_(flat[begin : begin + count].view_as(parameter))
            begin += count


def join_process_group(device: str) -> ProcessGroup:
    """Join the process group that torchrun has started; without torchrun, return a group of one.

    The variables that torchrun sets are removed, so that transformers' Trainer believes it is alone with the one GPU it
    sees. Otherwise it would wrap the model in DistributedDataParallel, which exchanges gradients inside the backward pass.

    Args:
        device: "cpu" or "cuda".
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ProcessGroup()
    group = ProcessGroup(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if device == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[local] if visible else str(local)
        # Only one GPU is visible now, so its index is 0.
        dist.init_process_group("nccl", device_id=torch.device("cuda", 0))
    else:
        dist.init_process_group("gloo")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        del os.environ[name]
    return group
