"""How much memory and work a tuning takes, predicted before anything is loaded. No torch; microseconds.

Coefficients: allocations of forward and backward passes of small Llamas (transformers 5.23, PEFT 0.21, bitsandbytes
0.50), traced while layers, widths, rank and tokens varied; linear in the tokens.
"""

from dataclasses import dataclass

from presets.model_preset import Architecture

GIB = 1 << 30
NF4_BYTES = 0.5 + 1 / 64 + 1 / 4096  # 4 bits, one 8-bit scale a block of 64, one 32-bit scale a 256 of those
PROCESS_BYTES = int(1.3 * GIB)  # torch, transformers, PEFT and bitsandbytes loaded, before the model


@dataclass(frozen=True)
class TuningMemory:
    """Bytes by what holds them, at the peak of one micro-batch."""

    weights: float
    adapter: float
    activations: float
    head: float
    process: float

    @property
    def total(self) -> float:
        """Bytes in all."""
        return self.weights + self.adapter + self.activations + self.head + self.process


def adapter_parameters(shape: Architecture, rank: int) -> int:
    """Parameters of a LoRA of `rank` on every linear projection: rank x (in + out) each."""
    return shape.layers * rank * sum(rows + columns for rows, columns in shape.linear_shapes)


def tuning_memory(
    shape: Architecture, *, method: str, rank: int, tokens: int, recompute: bool, on_cpu: bool
) -> TuningMemory:
    """Predict the peak of tuning with micro-batches of `tokens`.

    Args:
        shape: the model's constants.
        method: "qlora" (NF4 with double quantisation) or "lora" (bf16).
        rank: of the adapter.
        tokens: in a micro-batch, all documents together.
        recompute: whether each layer's activations are recomputed in the backward pass (activation checkpointing).
        on_cpu: adds what a CPU's passes keep besides: PEFT casts each projection's input to the adapter's fp32 there.
    """
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    h, inner = shape.hidden, shape.intermediate
    weights = shape.linear_parameters * (NF4_BYTES if method == "qlora" else 2) + 2 * shape.embedding_parameters
    adapter = adapter_parameters(shape, rank) * (4 + 4 + 8 + 2)  # fp32 weight, gradient, two moments, bf16 copy
    layer = 8 * inner + 9.3 * (h + q) + 14 * rank + (4 * (5 * h + q + inner) if on_cpu else 0)
    if recompute:
        hump = tokens * (12 * inner + 11 * (h + q) + 4 * kv) + 2 * max(
            rows * cols for rows, cols in shape.linear_shapes
        )
        activations = 2.0 * h * shape.layers * tokens + hump
    else:
        activations = float(tokens * shape.layers * layer)
    head = 16.0 * tokens * shape.vocabulary  # logits in bf16 and fp32, their gradients; every token labelled
    return TuningMemory(weights, adapter, activations, head, PROCESS_BYTES)


def tuning_flops(shape: Architecture, *, tokens: int, recompute: bool) -> float:
    """Floating-point operations to tune on `tokens`: 2N forward, 2N back to the activations, 2N more to recompute.

    The base's own weights take no gradient, so the usual third 2N of training is not there.
    """
    active = shape.linear_parameters + shape.vocabulary * shape.hidden
    return float(tokens) * active * (6 if recompute else 4)


def forward_flops(shape: Architecture, *, tokens: int) -> float:
    """Floating-point operations of one forward pass over `tokens`."""
    return float(tokens) * 2 * (shape.linear_parameters + shape.vocabulary * shape.hidden)
