"""Attention over packs without a mask: each row's queries meet that row's keys alone, so the work grows with the rows' lengths.

With transformers' own SDPA a pack needs a mask of T x T values, and T squared products of which most are thrown away; on
a GPU the mask keeps it off the flash kernel besides. On two cores (fp32, heads as SmolLM2-135M has them, forward and
backward pass of one layer, rows of 20 to 560 tokens) a pack of 512 takes 120 ms of processor time with the mask and 41
row by row, one of 1024 takes 221 and 61, one of 2048 takes 788 and 156.

Both forms are registered with transformers by name. They do what they are for where they are told where rows begin
(`row_bounds`), which `packs` does; whatever else the model is asked for, generation or a padded batch, is SDPA's as before.
"""

from collections.abc import Callable
from typing import Any

import torch

VARLEN = "fineline_varlen"  # torch's kernel for sequences of different lengths, on NVIDIA's GPUs
BY_ROW = "fineline_by_row"  # SDPA once a row
LARGEST_HEAD = 256  # of the flash kernel
OLDEST_GPU = (8, 0)  # CUDA compute capability that it knows
# The flash kernel's backward pass reckons offsets in 32 bits (unsloth's attention dispatch has the same guard).
LARGEST_OFFSET = 1 << 31
ROW_PADDING = 128


def use_packed_attention(model: Any, device: str) -> None:
    """Choose the attention in which the model computes packs fastest; leave it SDPA where none of ours is equal to it.

    Args:
        model: a causal language model of transformers, without an adapter.
        device: "cpu" or "cuda".
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if not _suits(model):
        return
    name = VARLEN if device == "cuda" and _gpu_has_varlen(model) else BY_ROW
    AttentionInterface.register(name, _varlen if name == VARLEN else _by_row)
    # Without one no mask would be made at all, not even for a padded batch.
    AttentionMaskInterface.register(name, sdpa_mask)
    model.set_attn_implementation(name)


def row_bounds(model: Any, position_ids: "torch.Tensor") -> dict[str, Any]:
    """Return what the model must be given besides a pack's tokens and positions, where its attention is one of ours.

    Args:
        model: with or without an adapter.
        position_ids: (1, T), anew from 0 with each row.
    """
    if model.config._attn_implementation not in (VARLEN, BY_ROW):
        return {}
    begins = (position_ids[0] == 0).nonzero().flatten()
    end = begins.new_tensor([position_ids.shape[1]])
    bounds = torch.cat([begins, end]).to(torch.int32)
    longest = int(bounds.diff().max())
    return {
        # One tensor for both: cuDNN's kernel is causal only where queries and keys have the very same bounds.
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
        # transformers takes a mask of four dimensions for finished, and makes none of T x T.
        "attention_mask": torch.ones((1, 1, 1, 1), dtype=torch.bool, device=position_ids.device),
    }


def _suits(model: Any) -> bool:
    """Tell whether every layer's attention is plain: causal over the whole row, no softcap, no sinks, no dropout."""
    config = model.config.get_text_config()
    windows = [kind for kind in getattr(config, "layer_types", None) or [] if kind != "full_attention"]
    return (
        bool(model._supports_attention_backend)
        and model.config._attn_implementation == "sdpa"
        and not windows
        and (bool(getattr(config, "layer_types", None)) or not getattr(config, "sliding_window", None))
        and not getattr(config, "attn_logit_softcapping", None)
        and not getattr(config, "attention_dropout", 0.0)
    )


def _gpu_has_varlen(model: Any) -> bool:
    config = model.config.get_text_config()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return (
        torch.cuda.get_device_capability() >= OLDEST_GPU
        and head <= LARGEST_HEAD
        and model.dtype in (torch.bfloat16, torch.float16)
    )


def _varlen(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention with torch's varlen kernel; of shapes (1, heads, T, head_dim), to (1, T, heads, head_dim)."""
    if cu_seq_lens_q is None:
        return _sdpa(module, query, key, value, attention_mask, scaling=scaling, **others)
    from torch.nn.attention.varlen import varlen_attn

    rows, (_, heads, tokens, width) = cu_seq_lens_q.numel() - 1, query.shape
    if (tokens + ROW_PADDING * rows) * heads * width >= LARGEST_OFFSET:
        return _by_row(module, query, key, value, None, scaling=scaling, cu_seq_lens_q=cu_seq_lens_q)
    q, k, v = (one.transpose(1, 2).flatten(0, 1) for one in (query, key, value))
    found = varlen_attn(
        q,
        k,
        v,
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        scale=scaling,
        window_size=(-1, 0),  # causal
        enable_gqa=True,
    )
    assert isinstance(found, torch.Tensor)
    return found[None], None


def _by_row(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention row by row; shapes as in `_varlen`."""
    if cu_seq_lens_q is None:
        return _sdpa(module, query, key, value, attention_mask, scaling=scaling, **others)
    lengths = cu_seq_lens_q.diff().tolist()
    rows = zip(*(torch.split(one, lengths, 2) for one in (query, key, value)), strict=True)
    attention = torch.nn.functional.scaled_dot_product_attention
    found = [attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True) for q, k, v in rows]
    return torch.cat(found, 2).transpose(1, 2), None


def _sdpa(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    # A model that drops the bounds on their way gets one causal row: `packs.isolates` sees that its rows are not apart.
    mask = None if attention_mask is not None and attention_mask.shape == (1, 1, 1, 1) else attention_mask
    compute: Callable[..., tuple[torch.Tensor, None]] = sdpa_attention_forward
    return compute(module, query, key, value, mask, **others)
