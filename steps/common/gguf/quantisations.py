"""The quantisations of a GGUF file, and the size of the file. Imports no torch."""

from presets.architecture import Architecture

# Bytes per weight: each block of 32 has a scale of two bytes, and in q4_1 and q5_1 a minimum of two more
# (https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).
BYTES_PER_WEIGHT = {
    "bf16": 2.0,
    "f16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
}
# Embedding and head keep 8 bits if the rest has 4 or 5: that adds a twentieth to the size, and answers suffer most from
# coarser ones. llama.cpp's own quantiser keeps them finer too.
EMBEDDING_MINIMUM = "q8_0"
VOCABULARY_BYTES = 1 << 24  # upper bound for tokens, merges and metadata


def embedding_quantisation(quantisation: str) -> str:
    """Return the quantisation of embedding and head."""
    return quantisation if BYTES_PER_WEIGHT[quantisation] >= BYTES_PER_WEIGHT[EMBEDDING_MINIMUM] else EMBEDDING_MINIMUM


def file_bytes(shape: Architecture, quantisation: str) -> int:
    """Estimate the size of a model's GGUF file, in bytes."""
    embeddings = shape.embedding_parameters
    rest = shape.parameters - embeddings
    weights = (
        rest * BYTES_PER_WEIGHT[quantisation] + embeddings * BYTES_PER_WEIGHT[embedding_quantisation(quantisation)]
    )
    return int(weights) + VOCABULARY_BYTES
