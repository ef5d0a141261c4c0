"""One of two ranks that share a base model, as torchrun starts it. Rank 1 runs out of memory halfway forward and backward.

    python -m torch.distributed.run --standalone --nproc-per-node=2 -m tests.support.sharded_worker JOB

Writes how many bytes of the base model's layers it held at most to `rank-RANK.json` next to the tuning.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from steps.tune.distributed import sharded_base
from steps.tune.distributed.decoder_layers import decoder_layers
from steps.tune.objective import sft
from steps.tune.objective.objective import Pack
from steps.tune.train_process import TuningJob, run_train_process

MOST = (100, 50)  # tokens that fit in rank 1's memory: in the first forward pass, then in a backward pass
job = TuningJob.model_validate_json(Path(sys.argv[1]).read_text())
rank = int(os.environ["RANK"])
holders: list["Watched"] = []
most = {"held": 0, "all": 0, "shortages": 0}


class Watched(sharded_base.ShardedBase):
    """Records how much it holds."""

    def load(self, folder: Path, device: str, *, in_4_bits: bool) -> Any:
        """Return the model, whose layers record what is held while they compute."""
        model = super().load(folder, device, in_4_bits=in_4_bits)
        holders.append(self)
        most["all"] = sum(layer.buffer.numel() for layer in self._layers)
        for _, layer in decoder_layers(model):
            layer.register_forward_pre_hook(lambda *_: self.note())
        return model

    def note(self) -> None:
        """Record the most that was held."""
        held = sum(layer.buffer.untyped_storage().nbytes() for layer in self._layers)
        most["held"] = max(most["held"], held)


class OutOfMemory(sft.SftObjective):
    """Requests a petabyte from torch's allocator in the middle layer."""

    def loss(self, model: torch.nn.Module, pack: Pack, device: torch.device) -> torch.Tensor:
        """Return the loss, if there is memory for it."""
        tokens = sum(len(row.input_ids) for row in pack)
        layers = decoder_layers(model.get_base_model())  # type: ignore[operator]
        middle = layers[len(layers) // 2][1]
        handle = middle.register_forward_hook(lambda _layer, _args, output: self._allocate(output, tokens))
        try:
            return super().loss(model, pack, device)
        finally:
            handle.remove()

    def _allocate(self, output: Any, tokens: int) -> None:
        if not rank or most["shortages"] == len(MOST) or tokens <= MOST[most["shortages"]]:
            return
        most["shortages"] += 1
        if most["shortages"] == 1:
            torch.empty(1 << 50, dtype=torch.uint8)
        hidden = output if isinstance(output, torch.Tensor) else output[0]
        hidden.register_hook(lambda _: torch.empty(1 << 50, dtype=torch.uint8))


sft.SftObjective = OutOfMemory  # type: ignore[misc]
sharded_base.ShardedBase = Watched  # type: ignore[misc]
folder = Path(job.folder)
run_train_process(job)
(folder.parent / f"rank-{rank}.json").write_text(json.dumps(most))
