"""What vLLM needs of a GPU to serve a model with its adapters, and how many tokens it can then keep.

vLLM takes a share of the GPU and gives to its cache of keys and values whatever weights, adapters and its own work leave.
"""

from dataclasses import dataclass

from presets.architecture import Architecture
from presets.memory import GIB, adapter_parameters

SHARE = 0.9  # of the GPU's memory that vLLM takes, its default
# Activations at its peak, CUDA graphs and what CUDA takes itself: 3.0 GiB with Llama-3-8B on an H100 (vllm#10511), 5.6 with
# graphs on an L40S (vllm#17122); it grows with the batch that vLLM profiles with.
WORK_BYTES_SMALL, WORK_BYTES_LARGE = int(2.5 * GIB), int(4 * GIB)
SMALL_PARAMETERS = 14e9


@dataclass(frozen=True)
class ServingMemory:
    """Bytes on each of the GPUs among which the model is split."""

    weights: float
    adapters: float
    work: float
    cache_a_token: float

    def tokens(self, gpu_bytes: float) -> int:
        """Return how many tokens the cache holds on GPUs of that memory; under nought: the model does not fit."""
        return int((SHARE * gpu_bytes - self.weights - self.adapters - self.work) / self.cache_a_token)


def serving_memory(
    shape: Architecture, *, weight_bytes: float = 2.0, rank: int = 16, adapters: int = 1, split: int = 1
) -> ServingMemory:
    """Predict what serving takes.

    Args:
        shape: the model's constants.
        weight_bytes: a parameter: 2 in bf16, about 1.03 in FP8, 0.56 in 4 bits.
        rank: of the adapters, as vLLM makes room for: the smallest of its own ranks that is enough.
        adapters: in one batch.
        split: tensor parallelism.
    """
    # A latent is kept whole on every GPU, and so are heads that are fewer than the GPUs.
    shared_by = 1 if shape.latent_attention else min(split, shape.kv_heads)
    work = WORK_BYTES_SMALL if shape.parameters <= SMALL_PARAMETERS else WORK_BYTES_LARGE
    return ServingMemory(
        weights=weight_bytes * shape.parameters / split,
        adapters=adapters * adapter_parameters(shape, rank) * 2 / split,
        work=float(work),
        cache_a_token=2.0 * shape.cache_values / shared_by,
    )
