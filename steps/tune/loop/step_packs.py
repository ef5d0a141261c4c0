"""Which packs make each optimizer step: the same ones however many GPUs compute them, and at every attempt."""

import math
import random


def schedule(packs: int, micro_batches: int, epochs: float, seed: int) -> list[list[int]]:
    """Return the numbers of the packs of each optimizer step.

    Args:
        packs: how many there are.
        micro_batches: packs in a step; the last step of an epoch may have fewer.
        epochs: passes over the packs; the last one may be a part of one.
        seed: of the order, which is another one in each epoch.
    """
    in_an_epoch = math.ceil(packs / micro_batches)
    wanted = max(1, math.ceil(epochs * in_an_epoch))
    steps: list[list[int]] = []
    for epoch in range(math.ceil(wanted / in_an_epoch)):
        order = list(range(packs))
        random.Random(f"{seed} {epoch}").shuffle(order)
        steps += [order[start : start + micro_batches] for start in range(0, packs, micro_batches)]
    return steps[:wanted]
