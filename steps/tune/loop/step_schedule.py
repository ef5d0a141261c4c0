"""Which packs make up each optimizer step: the same ones on any number of GPUs, and in every attempt."""

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy

from steps.common.model.packs import RowPacks
from steps.tune.objective.objective import Pack


class ScheduledSteps(Sequence[list[Pack]]):
    """The packs of each optimizer step, over all epochs. Their rows are read when the step is due."""

    def __init__(self, packs: RowPacks[Any], steps: Sequence[Iterable[int]]) -> None:
        """Refer to the packs of each step by their indices."""
        self._packs, self._steps = packs, steps

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, step: int) -> list[Pack]:  # type: ignore[override]
        """Read the packs of one step."""
        return [self._packs[int(pack)] for pack in self._steps[step]]


def schedule_steps(packs: int, micro_batches: int, epochs: float, seed: int) -> list[numpy.ndarray]:
    """Return the indices of the packs of each optimizer step.

    Args:
        packs: number of packs.
        micro_batches: packs per step; an epoch's last step may have fewer.
        epochs: passes over the packs; the last one may be partial.
        seed: of the shuffle, which differs from epoch to epoch.
    """
    steps_per_epoch = math.ceil(packs / micro_batches)
    total = max(1, math.ceil(epochs * steps_per_epoch))
    steps: list[numpy.ndarray] = []
    for epoch in range(math.ceil(total / steps_per_epoch)):
        order = list(range(packs))
        random.Random(f"{seed} {epoch}").shuffle(order)
        compact = numpy.array(order, numpy.int32)
        steps += [compact[start : start + micro_batches] for start in range(0, packs, micro_batches)]
    return steps[:total]
