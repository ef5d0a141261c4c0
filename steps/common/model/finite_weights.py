"""Finds weights of a base model that are not numbers: one is enough for every answer to be none."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from steps.common.machine.devices import cores
from steps.common.runtime.errors import UserError


def check_finite(folder: Path) -> None:
    """Refuse a base model with a weight that is NaN or infinite.

    In NF4 the fault would not show before the evaluation: quantising a block of weights may hide it.

    Args:
        folder: of its safetensors.

    Raises:
        UserError: with the tensor and its file.
    """
    files = sorted(folder.glob("*.safetensors"))
    with ThreadPoolExecutor(cores()) as pool:
        for file, name in zip(files, pool.map(_first_not_finite, files), strict=True):
            if name:
                raise UserError(
                    f"model: {file.name}: its weight {name} contains NaN or infinite values, as published; choose another "
                    "revision, or save the model again"
                )


def _first_not_finite(file: Path) -> str:
    """Return the name of the first such tensor of a file; empty if there is none."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - not a dict
            tensor = tensors.get_tensor(name)
            if tensor.numel() and tensor.is_floating_point():
                if tensor.itemsize == 1:
                    tensor = tensor.float()  # of such types PyTorch finds no extremes
                # Both are NaN if there is one. On a CPU this is ten times as fast as isfinite().
                low, high = tensor.aminmax()
                if not (low.isfinite() and high.isfinite()):
                    return str(name)
    return ""
