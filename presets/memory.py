"""How much memory a tuning takes, predicted before anything is loaded. No torch; microseconds.

Coefficients: allocations of forward and backward passes of small Llamas (transformers 5.23, PEFT 0.21, bitsandbytes
0.50), traced while layers, widths, rank and tokens varied; linear in the tokens. `tests/presets/published_memory.yaml` holds
what others have measured on GPUs, and how far off this is.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from presets.architecture import Architecture

GIB = 1 << 30
NF4_SCALES = 1 / 64 + 1 / 4096  # bytes a parameter: one 8-bit scale a block of 64, one 32-bit scale a 256 of those
NF4_STORED = 0.5  # likewise: the 4 bits
NF4_BYTES = NF4_STORED + NF4_SCALES
FULL_BYTES = 2 + 2 + 4 + 4 + 4  # full tuning: bf16 weight and gradient; fp32 master weight and two moments
PROCESS_BYTES = int(1.3 * GIB)  # torch, transformers, PEFT and bitsandbytes loaded in a process, before the model
CONTEXT_BYTES = int(0.7 * GIB)  # what CUDA takes of a GPU beside what torch's allocator reserves
RESERVED = 1.03  # what the allocator reserves, to what is allocated at the peak
FUSED_HEAD_BYTES = 65536  # a position, for at most 4096 positions at a time: tiles of 32,768 of the vocabulary
CHUNK_VALUES = 1 << 25  # logits that our own head computes at a time
CHUNK_BYTES = 8  # a logit: in fp32, and in the model's type
SCORED_TOKENS = 4096  # of a micro-batch that is scored at most: more gains nothing

Method = Literal["qlora", "lora", "full"]
Activations = Literal["kept", "recomputed", "offloaded"]


@dataclass(frozen=True)
class Stack:
    """How a training program holds what it computes with."""

    adapter_bytes: float = 4 + 4 + 2 + 2  # a parameter: fp32 weight and gradient, 8-bit moments, autocast's bf16 copy
    residual_bytes: int = 2  # a value between two layers; 4 after `prepare_model_for_kbit_training`
    embedding_bytes: int = 2  # a parameter of embedding and head; likewise
    fused_head: bool = False  # the logits are never there as a whole, as with TRL's and Axolotl's heads
    chunked_head: bool = False  # nor with ours, which computes them some positions at a time
    process_bytes: int = 0
    reserved: float = RESERVED
    casts_inputs: bool = False  # PEFT casts each projection's input to the adapter's fp32, where autocast does not


GPU = Stack(chunked_head=True)
# Adam's moments are in fp32 on a CPU, and nothing is cast by autocast.
CPU_BF16 = Stack(
    adapter_bytes=4 + 4 + 8, chunked_head=True, process_bytes=PROCESS_BYTES, reserved=1.0, casts_inputs=True
)
CPU_FP32 = replace(CPU_BF16, residual_bytes=4, embedding_bytes=4, casts_inputs=False)


@dataclass(frozen=True)
class TuningMemory:
    """Bytes by what holds them, at the peak of one micro-batch, on each of the GPUs that share the model."""

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
        shape: a dense model's constants.
        method: "qlora" (NF4 with double quantisation), "lora" (bf16), or "full" (every weight is learnt).
        rank: of the adapter; of no account with "full".
        tokens: in a micro-batch, all documents together.
        activations: "kept" until the backward pass, "recomputed" layer by layer in it, or recomputed from layer inputs
            that were "offloaded" to the host.
        stack: how the program holds them.
        shards: GPUs among which the layers of a base that is not learnt are dealt out; each has all the rest, and a
            micro-batch of its own.
        dora: the adapter is a DoRA.
    """
    h = shape.hidden
    width = stack.residual_bytes / 2  # the coefficients below are of values of 2 bytes
    if method == "full":
        weights, adapter = FULL_BYTES * float(shape.parameters), 0.0
    else:
        weights = _frozen(shape, stack, shards, in_4_bits=method == "qlora")
        adapter = adapter_parameters(shape, rank) * stack.adapter_bytes
    if activations == "kept":
        held, hump = float(tokens) * shape.layers * _layer(shape, rank, stack, width), 0.0
    else:
        held = 0.0 if activations == "offloaded" else float(stack.residual_bytes) * h * shape.layers * tokens
        hump = _hump(shape, tokens, width, dequantised=method == "qlora")
    if dora and method != "full":
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
    """Bytes of a base that is not learnt; of its layers' weights, those of one shard, the largest.

    A layer that is another's is there while it is computed, and so is the next one, which is fetched meanwhile.
    """
    linear = shape.linear_parameters
    stored, kept = (NF4_STORED, NF4_SCALES) if in_4_bits else (float(stack.residual_bytes), 0.0)
    layers = shape.layers if shards == 1 else math.ceil(shape.layers / shards) + 2
    share = layers / shape.layers * stored + kept
    return linear * share + stack.embedding_bytes * (shape.embedding_parameters + shape.beside)


def evaluation_memory(shape: Architecture, *, tokens: int, in_4_bits: bool, stack: Stack = GPU, gpus: int = 1) -> float:
    """Predict the peak of scoring, without gradients: weights, one layer's work, and the head's.

    Args:
        shape: a dense model's constants.
        tokens: in a micro-batch, every one taken as scored.
        in_4_bits: the base is in NF4 and the adapter beside it, as it was tuned; else all is in bf16, as it is served.
        stack: how the program holds them.
        gpus: among which the layers are dealt out, whole; the logits are where the head is.
    """
    layers = math.ceil(shape.layers / gpus) / shape.layers
    linear = layers * shape.linear_parameters * (NF4_BYTES if in_4_bits else float(stack.residual_bytes))
    weights = linear + stack.embedding_bytes * (shape.embedding_parameters + shape.beside)
    width = stack.residual_bytes / 2
    layer = tokens * (8 * shape.intermediate + 6 * (shape.hidden + shape.query_width)) * width
    return (weights + layer + _head(shape, tokens, stack)) * stack.reserved + stack.process_bytes


def scored_tokens(micro_batch_tokens: int, longest_row: int) -> int:
    """Return the tokens of a micro-batch that is scored, where it is tuned with others."""
    return max(min(micro_batch_tokens, SCORED_TOKENS), longest_row)


def offloaded_bytes(shape: Architecture, tokens: int) -> int:
    """Bytes of the host's memory that hold the layers' inputs, where they are offloaded."""
    return 2 * shape.hidden * shape.layers * tokens


def _layer(shape: Architecture, rank: int, stack: Stack, width: float) -> float:
    """Bytes a token and layer that are kept for the backward pass."""
    h, q, inner = shape.hidden, shape.query_width, shape.intermediate
    kept = (8 * inner + 9.3 * (h + q)) * width + 14 * rank
    return kept + (4 * (5 * h + q + inner) if stack.casts_inputs else 0)


def _dora(shape: Architecture, stack: Stack) -> float:
    """Bytes a token and layer that a DoRA keeps besides: of each projection the base's output and, in fp32, the adapter's.

    For the length of its rows PEFT multiplies out the largest projection's matrices with an identity of (in, in), in fp32.
    Traced as the rest was: 6.0 to 6.5 bytes an output in bf16, 7.8 in fp32; the second term within 6 %.
    """
    return (4.0 + stack.residual_bytes) * 1.08 * sum(out for _, out in shape.linear_shapes)


def _hump(shape: Architecture, tokens: int, width: float, *, dequantised: bool) -> float:
    """Bytes of one layer's backward pass, its activations computed anew, and of one weight that was dequantised."""
    h, q, kv, inner = shape.hidden, shape.query_width, shape.key_value_width, shape.intermediate
    weight = 2 * width * max(rows * columns for rows, columns in shape.linear_shapes) if dequantised else 0.0
    return tokens * (12 * inner + 11 * (h + q) + 4 * kv) * width + weight


def _head(shape: Architecture, tokens: int, stack: Stack) -> float:
    """Bytes of the loss: logits in the model's type and in fp32, and their gradients; every token taken as labelled.

    Beside a chunk of logits stand the hidden states' gradients, and what becomes of them on their way back.
    """
    if stack.chunked_head:
        chunk = float(CHUNK_BYTES) * min(tokens * shape.vocabulary, CHUNK_VALUES)
        return chunk + 4.0 * stack.residual_bytes * tokens * shape.hidden
    if stack.fused_head:
        return min(tokens, 4096) * float(FUSED_HEAD_BYTES) + 8.0 * tokens * shape.hidden
    return 16.0 * tokens * shape.vocabulary
