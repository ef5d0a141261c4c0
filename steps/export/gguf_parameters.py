"""Writes a model's hyperparameters to GGUF, from its transformers configuration."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy


def add_parameters(writer: Any, config: Any, rows: int) -> None:
    """Write the hyperparameters of a decoder.

    Args:
        writer: a GGUFWriter.
        config: the transformers configuration.
        rows: of the embedding matrix.
    """
    head_dim = head_dimension(config)
    rotary = config.rope_parameters
    writer.add_vocab_size(rows)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(rotary_dimensions(config))
    writer.add_rope_freq_base(float(rotary["rope_theta"]))
    if config.model_type == "phi3":
        _add_phi3(writer, config)
    elif rotary["rope_type"] in ("linear", "yarn"):
        _add_rope_scaling(writer, rotary)


def head_dimension(config: Any) -> int:
    """Return the dimension of an attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def rotary_dimensions(config: Any) -> int:
    """Return how many dimensions of a head rotary embeddings rotate."""
    return int(head_dimension(config) * (config.rope_parameters.get("partial_rotary_factor") or 1.0))


def _add_rope_scaling(writer: Any, rotary: dict[str, Any]) -> None:
    import gguf

    writer.add_rope_scaling_type(gguf.RopeScalingType(rotary["rope_type"]))
    writer.add_rope_scaling_factor(float(rotary["factor"]))
    if rotary["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(int(rotary["original_max_position_embeddings"]))


def _add_phi3(writer: Any, config: Any) -> None:
    import math

    longest, trained = config.max_position_embeddings, _trained_context(config)
    writer.add_rope_scaling_orig_ctx_len(trained)
    writer.add_sliding_window(config.sliding_window or 0)
    if config.rope_parameters["rope_type"] == "longrope":
        stretched = longest / trained
        factor = math.sqrt(1 + math.log(stretched) / math.log(trained)) if stretched > 1 else 1.0
        writer.add_rope_scaling_attn_factors(config.rope_parameters.get("attention_factor") or factor)


def _trained_context(config: Any) -> int:
    return int(
        config.rope_parameters.get("original_max_position_embeddings")
        or getattr(config, "original_max_position_embeddings", None)
        or config.max_position_embeddings
    )


def rotary_tensors(config: Any) -> dict[str, "numpy.ndarray[Any, Any]"]:
    """Return the divisors of the rotary frequencies, as tensors; empty if the model does not scale them one by one."""
    import numpy

    rotary = config.rope_parameters
    if rotary["rope_type"] == "longrope":
        return {
            f"rope_factors_{length}.weight": numpy.asarray(rotary[f"{length}_factor"], dtype=numpy.float32)
            for length in ("long", "short")
        }
    if rotary["rope_type"] == "llama3":
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
        powers = numpy.arange(0, rotary_dimensions(config), 2, dtype=numpy.float32) / rotary_dimensions(config)
        plain = 1.0 / numpy.float32(rotary["rope_theta"]) ** powers
        return {"rope_freqs.weight": plain / stretched.float().numpy()}
    return {}
