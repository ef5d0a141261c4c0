"""Which packs make up each optimizer step: the same ones on any number of GPUs, and in every attempt."""

import math
import random


def schedule_steps(packs: int, micro_batches: int, epochs: float, seed: int) -> list[list[int]]:
    """Return the indices of the packs of each optimizer step.

    Args:
        packs: number of packs.
        micro_batches: packs per step; an epoch's last step may have fewer.
        epochs: passes over the packs; the last one may be partial.
        seed: of the shuffle, which differs from epoch to epoch.
    """
    steps_per_epoch = math.ceil(packs / micro_batches)
    total = max(1, math.ceil(epochs * steps_per_epoch))
    steps: list[list[int]] = []
    for epoch in range(math.ceil(total / steps_per_epoch)):
        order = list(range(packs))
        random.Random(f"{seed} {epoch}").shuffle(order)
        steps += [order[start : start + micro_batches] for start in range(0, packs, micro_batches)]
    return steps[:total]
