"""The processes that train side by side, each on a GPU of its own and on its share of every optimizer step.

Each sums its gradients over its own micro-batches, and once a step they are summed over all: an adapter's gradients are
some hundred megabytes at most, and between two micro-batches nothing is exchanged. So the memory of one may run out, and
be helped, without a word to the others.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

Item = TypeVar("Item")


@dataclass(frozen=True)
class Team:
    """This process and how many there are."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and logs."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item | None]:
        """Return this process's items; None where the others have one more."""
        own: list[Item | None] = list(items[self.rank :: self.size])
        return own + [None] * (-(-len(items) // self.size) - len(own))

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of a value of each."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def any(self, flags: Sequence[bool], device: torch.device) -> list[bool]:
        """Return of each flag whether it is set in any of them."""
        if self.size == 1:
            return list(flags)
        told = torch.tensor(list(flags), dtype=torch.int32, device=device)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in told.tolist()]

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sum each parameter's gradient over all; one that has none here has nought."""
        if self.size == 1:
            return
        learnt = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in learnt:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([parameter.grad.flatten() for parameter in learnt if parameter.grad is not None])
        dist.all_reduce(flat)
        begin = 0
        for parameter in learnt:
            assert parameter.grad is not None
            count = parameter.numel()
            parameter.grad.copy_(flat[begin : begin + count].view_as(parameter))
            begin += count


def join(kind: str) -> Team:
    """Join the processes that torchrun has started; alone where it has not.

    transformers' Trainer is left to believe that it is alone, with the one GPU that it sees: it would wrap the model in
    DistributedDataParallel, which exchanges gradients inside the backward pass.

    Args:
        kind: "cpu" or "cuda".
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Team()
    team = Team(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if kind == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[local] if visible else str(local)
    # The one GPU that it sees is its first.
    if kind == "cuda":
        dist.init_process_group("nccl", device_id=torch.device("cuda", 0))
    else:
        dist.init_process_group("gloo")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        del os.environ[name]
    return team
