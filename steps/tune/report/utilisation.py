"""Model FLOPs utilisation (MFU): the share of the device's peak that a training used."""

import time

from presets.architecture import Architecture
from presets.flops import tuning_flops
from presets.gpu_preset import speeds
from steps.common.handover.resolved import Device


def utilisation(
    shape: Architecture, tokens: int, seconds: float, device: Device, processes: int, *, recompute: bool
) -> float:
    """Return the share of the peak, from 0 to 1, that was used.

    All executed operations count, recomputed ones too: hardware FLOPs utilisation in the terms of
    https://arxiv.org/abs/2205.05198.

    Args:
        shape: of the model.
        tokens: trained on.
        seconds: of training.
        device: of each process. A GPU's peak is taken from its data sheet if it is known; otherwise, as on a CPU, it is
            measured now with a matrix product.
        processes: that trained together.
        recompute: whether the backward pass recomputed the forward pass.
    """
    achieved = tuning_flops(shape, tokens=tokens, recompute=recompute) / max(seconds, 1e-9)
    known = speeds().get(device.name.removeprefix("NVIDIA ").split("-")[0].strip())
    peak = known.tflops * 1e12 if device.kind == "cuda" and known else _measured_flops(device.kind)
    return achieved / (peak * processes)


def _measured_flops(kind: str) -> float:
    """Return the FLOP/s of a matrix product in the dtype that the training computes in."""
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
