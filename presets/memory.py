"""Predicts the memory of a tuning before anything is loaded, without torch and in microseconds.

The coefficients come from traced allocations of forward and backward passes of small Llamas (transformers 5.23, PEFT 0.21,
bitsandbytes 0.50) with different layers, widths, ranks and tokens; they are linear in the tokens.
`tests/presets/published_memory.yaml` compares the predictions with peaks that others have measured on GPUs.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from presets.architecture import Architecture

GIB = 1 << 30
NF4_SCALES = 1 / 64 + 1 / 4096  # bytes per parameter: one 8-bit scale per block of 64, one 32-bit scale per 256 blocks
NF4_STORED = 0.5  # bytes per parameter: the 4 bits
NF4_BYTES = NF4_STORED + NF4_SCALES
PROCESS_BYTES = int(1.3 * GIB)  # a process with torch, transformers, PEFT and bitsandbytes, before it loads the model
CONTEXT_BYTES = int(0.7 * GIB)  # GPU memory that CUDA uses outside torch's allocator
RESERVED = 1.03  # ratio of reserved to allocated memory at the peak
FUSED_HEAD_BYTES = 65536  # per position, for at most 4096 positions at a time: tiles of 32,768 of the vocabulary
CHUNK_VALUES = 1 << 25  # logits that the chunked head computes at a time
CHUNK_BYTES = 8  # per logit: in fp32 and in the model's type
SCORED_TOKENS = 4096  # largest micro-batch for scoring: a larger one is not faster

Method = Literal["qlora", "lora"]
Activations = Literal["kept", "recomputed", "offloaded"]


@dataclass(frozen=True)
class Stack:
    """How a training program stores weights, gradients and activations."""

    adapter_bytes: float = 4 + 4 + 2 + 2  # per parameter: fp32 weight and gradient, 8-bit moments, autocast's bf16 copy
    residual_bytes: int = 2  # per value between two layers; 4 after `prepare_model_for_kbit_training`
    embedding_bytes: int = 2  # per parameter of embedding and head; 4 after the same function
    fused_head: bool = False  # never holds all logits, like the heads of TRL and Axolotl
    chunked_head: bool = False  # computes the logits of a few positions at a time, as Fineline does
    process_bytes: int = 0
    reserved: float = RESERVED
    casts_inputs: bool = False  # without autocast, PEFT casts each projection's input to the adapter's fp32


GPU = Stack(chunked_head=True)
# On CPUs, Adam's moments are in fp32 and autocast is off.
CPU_BF16 = Stack(
    adapter_bytes=4 + 4 + 8, chunked_head=True, process_bytes=PROCESS_BYTES, reserved=1.0, casts_inputs=True
)
CPU_FP32 = replace(CPU_BF16, residual_bytes=4, embedding_bytes=4, casts_inputs=False)


@dataclass(frozen=True)
class TuningMemory:
    """Bytes by purpose at the peak of one micro-batch, on each GPU that shares the model."""

    weights: float
    adapter: float
    activations: float
    head: float
    process: float

    @property
    def total(self) -> float:
        """All bytes."""
        return self.weights + self.adapter + self.activations + self.head + self.process


def adapter_parameters(shape: Architecture, rank: int) -> int:
    """Return the parameters of a LoRA of `rank` on every linear projection: rank x (in + out) each."""
    return shape.layers * rank * sum(rows + columns for rows, columns in shape.linear_shapes)


def tuning_memory(
    shape: Architecture,
    *,
    method: Method,
    rank: int,
    tokens: int,
    activations: Activations,
    stack: Stack = GPU,
    shards: int = 1,
    dora: bool = False,
) -> TuningMemory:
    """Predict the peak of tuning with micro-batches of `tokens`.

    Args:
        shape: the constants of a dense model.
        method: "qlora" (NF4 with double quantisation) or "lora" (bf16).
        rank: rank of the adapter.
        tokens: tokens in a micro-batch, over all documents.
        activations: "kept" until the backward pass, "recomputed" in it layer by layer, or recomputed from layer inputs that
            were "offloaded" to the host.
        stack: how the program stores values.
        shards: GPUs across which the layers of the frozen base are sharded. Each GPU holds everything else, and has its own
            micro-batch.
        dora: whether the adapter is a DoRA.
    """
    h = shape.hidden
    width = stack.residual_bytes / 2  # the coefficients below assume values of 2 bytes
    weights = _frozen(shape, stack, shards, in_4_bits=method == "qlora")
    adapter = adapter_parameters(shape, rank) * stack.adapter_bytes
    if activations == "kept":
        held, hump = float(tokens) * shape.layers * _layer(shape, rank, stack, width), 0.0
    else:
        held = 0.0 if activations == "offloaded" else float(stack.residual_bytes) * h * shape.layers * tokens
        hump = _hump(shape, tokens, width, dequantised=method == "qlora")
    if dora:
        held += tokens * _dora(shape, stack) * (shape.layers if activations == "kept" else 1)
        hump += max(4 * into * into + 8 * into * out for into, out in shape.linear_shapes)
    head = _head(shape, tokens, stack)
    if activations != "kept" and not stack.process_bytes:
        hump, head = max(hump, head), 0.0  # one after the other, in the same memory
    return TuningMemory(
        weights=weights * stack.reserved,
        adapter=adapter * stack.reserved,
        activations=(held + hump) * stack.reserved,
        head=head * stack.reserved,
        process=float(stack.process_bytes),
    )


def _frozen(shape: Architecture, stack: Stack, shards: int, *, in_4_bits: bool) -> float:
    """Return the bytes of the frozen base on the GPU with the largest shard of the layers.

    Each GPU also holds the layer of another GPU that it computes with, and the next one, which it prefetches.
    """
    linear = shape.linear_parameters
    stored, kept = (NF4_STORED, NF4_SCALES) if in_4_bits else (float(stack.residual_bytes), 0.0)
    layers = shape.layers if shards == 1 else math.ceil(shape.layers / shards) + 2
    share = layers / shape.layers * stored + kept
    return linear * share + stack.embedding_bytes * (shape.embedding_parameters + shape.beside)


def evaluation_memory(shape: Architecture, *, tokens: int, in_4_bits: bool, stack: Stack = GPU, gpus: int = 1) -> float:
    """Predict the peak of scoring without gradients: weights, the activations of one layer, and the head.

    Args:
        shape: the constants of a dense model.
        tokens: tokens in a micro-batch, all of them scored.
        in_4_bits: whether the base is in NF4 with the adapter beside it, as in tuning; otherwise all is in bf16, as served.
        stack: how the program stores values.
        gpus: GPUs across which whole layers are distributed. The logits are on the GPU with the head.
    """
    layers = math.ceil(shape.layers / gpus) / shape.layers
    linear = layers * shape.linear_parameters * (NF4_BYTES if in_4_bits else float(stack.residual_bytes))
    weights = linear + stack.embedding_bytes * (shape.embedding_parameters + shape.beside)
    width = stack.residual_bytes / 2
    layer = tokens * (8 * shape.intermediate + 6 * (shape.hidden + shape.query_width)) * width
    return (weights + layer + _head(shape, tokens, stack)) * stack.reserved + stack.process_bytes


def scored_tokens(micro_batch_tokens: int, longest_row: int) -> int:
    """Return the tokens of a micro-batch for scoring, given those of a micro-batch for tuning."""
    return max(min(micro_batch_tokens, SCORED_TOKENS), longest_row)


def offloaded_bytes(shape: Architecture, tokens: int) -> int:
    """Return the bytes of host memory that hold the inputs of the layers if these are offloaded."""
    return 2 * shape.hidden * shape.layers * tokens


def _layer(shape: Architecture, rank: int, stack: Stack, width: float) -> float:
    """Return the bytes per token and layer that are kept for the backward pass."""
    h, q, inner = shape.hidden, shape.query_width, shape.intermediate
    kept = (8 * inner + 9.3 * (h + q)) * width + 14 * rank
    return kept + (4 * (5 * h + q + inner) if stack.casts_inputs else 0)


def _dora(shape: Architecture, stack: Stack) -> float:
    """Return the bytes per token and layer that DoRA adds: each projection's base output and, in fp32, adapter output.

    To get the norms of the rows, PEFT multiplies the matrices of the largest projection with an (in, in) identity in fp32.
    Traced like the rest: 6.0 to 6.5 bytes per output in bf16, 7.8 in fp32; the second term within 6 %.
    """
    return (4.0 + stack.residual_bytes) * 1.08 * sum(out for _, out in shape.linear_shapes)


def _hump(shape: Architecture, tokens: int, width: float, *, dequantised: bool) -> float:
    """Return the bytes of one layer's backward pass with recomputed activations, and of one dequantised weight."""
    h, q, kv, inner = shape.hidden, shape.query_width, shape.key_value_width, shape.intermediate
    weight = 2 * width * max(rows * columns for rows, columns in shape.linear_shapes) if dequantised else 0.0
    return tokens * (12 * inner + 11 * (h + q) + 4 * kv) * width + weight


def _head(shape: Architecture, tokens: int, stack: Stack) -> float:
    """Return the bytes of the loss if every token is labelled: logits in the model's type and in fp32, and their gradients.

    A chunked head also holds the gradients of the hidden states and the temporaries of their backward pass.
    """
    if stack.chunked_head:
        chunk = float(CHUNK_BYTES) * min(tokens * shape.vocabulary, CHUNK_VALUES)
        return chunk + 4.0 * stack.residual_bytes * tokens * shape.hidden
    if stack.fused_head:
        return min(tokens, 4096) * float(FUSED_HEAD_BYTES) + 8.0 * tokens * shape.hidden
    return 16.0 * tokens * shape.vocabulary
