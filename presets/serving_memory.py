"""The GPU memory that vLLM needs to serve a model with its adapters, and the number of tokens that it can then cache.

vLLM takes a share of the GPU. The KV cache gets what weights, adapters and vLLM's own overhead leave of it.
"""

from dataclasses import dataclass

from presets.architecture import Architecture
from presets.memory import GIB, adapter_parameters

SHARE = 0.9  # share of the GPU memory that vLLM takes by default
# Peak activations, CUDA graphs and the CUDA context: 3.0 GiB with Llama-3-8B on an H100 (vllm#10511), 5.6 GiB with graphs on
# an L40S (vllm#17122). It grows with the batch that vLLM profiles with.
OVERHEAD_BYTES_SMALL, OVERHEAD_BYTES_LARGE = int(2.5 * GIB), int(4 * GIB)
SMALL_PARAMETERS = 14e9


@dataclass(frozen=True)
class ServingMemory:
    """Bytes on each of the GPUs that share the model."""

    weights: float
    adapters: float
    overhead: float
    cache_per_token: float

    def tokens(self, gpu_bytes: float) -> int:
        """Return how many tokens the cache holds on GPUs with that memory. Negative: the model does not fit."""
        return int((SHARE * gpu_bytes - self.weights - self.adapters - self.overhead) / self.cache_per_token)


def serving_memory(
    shape: Architecture, *, weight_bytes: float = 2.0, rank: int = 16, adapters: int = 1, split: int = 1
) -> ServingMemory:
    """Predict the memory of serving.

    Args:
        shape: the constants of the model.
        weight_bytes: bytes per parameter: 2 in bf16, about 1.03 in FP8, 0.56 in 4 bits.
        rank: rank that vLLM reserves memory for: the smallest of its supported ranks that is large enough.
        adapters: adapters in one batch.
        split: GPUs of tensor parallelism.
    """
    # Every GPU caches the whole latent vector; heads are replicated if there are fewer heads than GPUs.
    shared_by = 1 if shape.latent_attention else min(split, shape.kv_heads)
    overhead = OVERHEAD_BYTES_SMALL if shape.parameters <= SMALL_PARAMETERS else OVERHEAD_BYTES_LARGE
    return ServingMemory(
        weights=weight_bytes * shape.parameters / split,
        adapters=adapters * adapter_parameters(shape, rank) * 2 / split,
        overhead=float(overhead),
        cache_per_token=2.0 * shape.cache_values / shared_by,
    )
