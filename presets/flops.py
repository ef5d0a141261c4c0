"""How much is computed, in floating-point operations."""

from presets.architecture import Architecture


def tuning_flops(shape: Architecture, *, tokens: int, recompute: bool) -> float:
    """Operations to tune an adapter on `tokens`: 2N forward, 2N back to the activations, 2N more to recompute.

    The base's own weights take no gradient, so the usual third 2N of training is not there.
    """
    return float(tokens) * shape.active_parameters * (6 if recompute else 4)


def forward_flops(shape: Architecture, *, tokens: int) -> float:
    """Operations of one forward pass over `tokens`."""
    return float(tokens) * 2 * shape.active_parameters
