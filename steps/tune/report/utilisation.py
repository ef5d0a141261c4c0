"""Model FLOPs utilisation: what a training computed a second, of what its device multiplies."""

import time

from presets.architecture import Architecture
from presets.flops import tuning_flops
from presets.gpu_preset import speeds
from steps.common.handover.resolved import Device


def utilisation(
    shape: Architecture, tokens: int, seconds: float, device: Device, processes: int, *, recompute: bool
) -> float:
    """Return the share of the peak, from 0 to 1, that the executed operations come to (hardware utilisation, as in
    https://arxiv.org/abs/2205.05198: what is recomputed counts).

    Args:
        shape: of the model.
        tokens: trained on.
        seconds: that it took.
        device: what computed. The peak of a GPU is that of its data sheet where it is known, else, as on a processor, that
            of a matrix product timed now.
        processes: how many of them computed side by side.
        recompute: whether the forward pass was done again in the backward pass.
    """
    done = tuning_flops(shape, tokens=tokens, recompute=recompute) / max(seconds, 1e-9)
    known = speeds().get(device.name.removeprefix("NVIDIA ").split("-")[0].strip())
    peak = known.tflops * 1e12 * processes if device.kind == "cuda" and known else _measured(device.kind) * processes
    return done / peak


def _measured(kind: str) -> float:
    """Return the operations a second of a matrix product in the type that is tuned in."""
    import torch

    from steps.common.machine.devices import compute_dtype

    size, times = (8192, 10) if kind == "cuda" else (1536, 4)
    factor = torch.ones(size, size, dtype=getattr(torch, compute_dtype(kind)), device=kind)
    factor @ factor
    started = time.perf_counter()
    for _ in range(times):
        product = factor @ factor
    float(product[0, 0])  # waits for the GPU
    return 2 * size**3 * times / (time.perf_counter() - started)
