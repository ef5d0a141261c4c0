"""The floating-point operations of tuning and scoring."""

from presets.architecture import Architecture


def tuning_flops(shape: Architecture, *, tokens: int, recompute: bool) -> float:
    """Return the operations to tune an adapter on `tokens`: 2N forward, 2N backward, 2N more to recompute.

    The frozen base needs no weight gradients, which saves the usual third 2N of training.
    """
    return float(tokens) * shape.active_parameters * (6 if recompute else 4)


def forward_flops(shape: Architecture, *, tokens: int) -> float:
    """Return the operations of one forward pass over `tokens`."""
    return float(tokens) * 2 * shape.active_parameters
