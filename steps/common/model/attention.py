"""Attention over packs without a mask: each row's queries attend to that row's keys only, so no work is wasted on other rows.

With transformers' own SDPA, a pack of T tokens needs a mask of T x T values, and most of the T x T products are thrown away.
On a GPU the mask also rules out the flash kernel. Processor time on two cores (fp32, the heads of SmolLM2-135M, forward and
backward pass of one layer, rows of 20 to 560 tokens):

    tokens in the pack    with the mask    row by row
    512                   120 ms           41 ms
    1024                  221 ms           61 ms
    2048                  788 ms           156 ms

Both implementations are registered with transformers by name. They take effect where a forward pass is given the rows'
boundaries (`row_bounds`), as `packs` does. All other forward passes, for generation or of a padded batch, use SDPA.
"""

from collections.abc import Callable
from typing import Any

import torch

VARLEN = "fineline_varlen"  # torch's variable-length kernel, on NVIDIA GPUs
BY_ROW = "fineline_by_row"  # SDPA, once per row
LARGEST_HEAD = 256  # head dimension that the flash kernel supports
OLDEST_GPU = (8, 0)  # CUDA compute capability that it requires
# The flash kernel's backward pass computes offsets in 32 bits (unsloth's attention dispatch has the same guard).
LARGEST_OFFSET = 1 << 31
ROW_PADDING = 128  # tokens per row that the kernel may add


def use_packed_attention(model: Any, device: str) -> None:
    """Select the fastest attention implementation for packs; keep SDPA if the model needs more than plain causal attention.

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
    # Without a registered mask function, transformers would create no mask at all, not even for a padded batch.
    AttentionMaskInterface.register(name, sdpa_mask)
    model.set_attn_implementation(name)


def row_bounds(model: Any, position_ids: "torch.Tensor") -> dict[str, Any]:
    """Return the further arguments of a pack's forward pass, by name; none if the model's attention is not one of ours.

    Args:
        model: with or without an adapter.
        position_ids: (1, T), restarting from 0 at each row.
    """
    if model.config._attn_implementation not in (VARLEN, BY_ROW):
        return {}
    begins = (position_ids[0] == 0).nonzero().flatten()
    end = begins.new_tensor([position_ids.shape[1]])
    bounds = torch.cat([begins, end]).to(torch.int32)
    longest = int(bounds.diff().max())
    return {
        # The same tensor twice: cuDNN's kernel is causal only if queries and keys share one tensor of boundaries.
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
        # transformers takes a four-dimensional mask as final, and does not create one of T x T.
        "attention_mask": torch.ones((1, 1, 1, 1), dtype=torch.bool, device=position_ids.device),
    }


def _suits(model: Any) -> bool:
    """Return whether every layer's attention is plain: causal over the whole row, without softcap, sinks or dropout."""
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
    """Compute attention with torch's varlen kernel: from (1, heads, T, head_dim) to (1, T, heads, head_dim)."""
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

    # A model that drops the boundaries on their way here gets plain causal attention over the whole pack;
    # `packs.isolates_rows` notices that.
    mask = None if attention_mask is not None and attention_mask.shape == (1, 1, 1, 1) else attention_mask
    compute: Callable[..., tuple[torch.Tensor, None]] = sdpa_attention_forward
    return compute(module, query, key, value, mask, **others)
