"""The quantisations that a GGUF file is written in, and the room that they take. Loads no torch."""

from presets.architecture import Architecture

# Bytes of a weight: blocks of 32 share a scale of two bytes, and in q4_1 and q5_1 a least value of two more
# (https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).
BYTES = {
    "bf16": 2.0,
    "f16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
}
# Embedding and head keep 8 bits where the rest has 4 or 5: a twentieth of a model's size, and where its answers suffer
# most. llama.cpp's own quantiser keeps them finer too.
AT_LEAST = "q8_0"
VOCABULARY_BYTES = 1 << 24  # of tokens, merges and metadata


def of_embeddings(quantisation: str) -> str:
    """Return what embedding and head are quantised to."""
    return quantisation if BYTES[quantisation] >= BYTES[AT_LEAST] else AT_LEAST


def file_bytes(shape: Architecture, quantisation: str) -> int:
    """Return about how large a GGUF file of a model is, in bytes."""
    embeddings = shape.embedding_parameters
    rest = shape.parameters - embeddings
    weights = rest * BYTES[quantisation] + embeddings * BYTES[of_embeddings(quantisation)]
    return int(weights) + VOCABULARY_BYTES
