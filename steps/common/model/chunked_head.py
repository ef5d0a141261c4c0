"""Computes losses and scores from the head a few hundred positions at a time, without materialising the full logits.

Full logits would take most of a tuning's memory: 16.8 GB with their gradients for 8192 tokens and a vocabulary of 128,256.
The head is frozen here, so the gradient of a position's loss with respect to its hidden state is known as soon as its
logits are: it is computed along with them, and nothing is computed twice. TRL's fused head recomputes the logits in the
backward pass, and its kernels need a C compiler, which the image does not have.
"""

from types import MethodType
from typing import Any

import torch

from presets.memory import CHUNK_VALUES

SMALLEST_CHUNK = 16  # positions
# How some models scale their logits, by the name of the setting in their configuration.
SCALES = ("logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")


def chunk_head(model: Any) -> None:
    """Let the model return losses instead of logits: `model(..., losses_of=(positions, targets))`.

    The losses (N) are in nats and fp32, with their graph. With `scores_of` in place of `losses_of`, the model returns the
    losses (N) without a graph, and whether it ranks each target first (N). Without either argument, its forward pass is
    unchanged. A model whose head is more than one linear layer is left as it is; `head_is_chunked` tells the two apart.

    Args:
        model: a causal language model of transformers, before it gets its adapter. Its head must be frozen.
    """
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear or any(getattr(config, name, None) not in (None, 1.0) for name in SCALES):
        return
    plain = model.forward
    softcap = getattr(config, "final_logit_softcapping", None)

    def forward(
        self: Any,
        *args: Any,
        losses_of: tuple[torch.Tensor, torch.Tensor] | None = None,
        scores_of: tuple[torch.Tensor, torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> Any:
        scored = losses_of or scores_of
        if scored is None:
            return plain(*args, **kwargs)
        # In a model that spans several GPUs, the inputs, the last layer and the head may be on different ones.
        device = head.weight.device
        positions, targets = (one.to(device) for one in scored)
        hidden = self.base_model(*args, **kwargs).last_hidden_state[0].to(device)[positions]
        if scores_of:
            return _scores(hidden, head.weight, head.bias, targets, softcap)
        return _ChunkedCrossEntropy.apply(hidden, head.weight, head.bias, targets, softcap)

    model.forward = MethodType(forward, model)
    model.head_is_chunked = True


def head_is_chunked(model: Any) -> bool:
    """Return whether `chunk_head` has changed the model. It may have an adapter."""
    return bool(getattr(model, "head_is_chunked", False))


def _chunks(count: int, vocabulary: int) -> list[slice]:
    size = max(SMALLEST_CHUNK, CHUNK_VALUES // vocabulary)
    return [slice(begin, begin + size) for begin in range(0, count, size)]


def _scores(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    targets: torch.Tensor,
    softcap: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses (N) of targets (N) at hidden states (N, h), and whether each target is ranked first (N)."""
    nats = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
    first = torch.empty(len(targets), dtype=torch.bool, device=hidden.device)
    for part in _chunks(len(targets), len(weight)):
        values = torch.nn.functional.linear(hidden[part].to(weight.dtype), weight, bias).float()
        if softcap:
            values = values.div_(softcap).tanh_().mul_(softcap)
        nats[part] = torch.nn.functional.cross_entropy(values, targets[part], reduction="none")
        first[part] = values.argmax(1) == targets[part]
    return nats, first


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Negative log-likelihoods of targets (N) at hidden states (N, h), for a frozen head (V, h)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        softcap: float | None,
    ) -> torch.Tensor:
        losses = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for part in _chunks(len(targets), len(weight)):
            target = targets[part, None]
            values = torch.nn.functional.linear(hidden[part].to(weight.dtype), weight, bias).float()
            slope = None
            if softcap:
                values = values.div_(softcap).tanh_()
                slope = 1 - values**2 if gradient is not None else None
                values = values.mul_(softcap)
            total = values.logsumexp(1, keepdim=True)
            losses[part] = (total - values.gather(1, target))[:, 0]
            if gradient is not None:
                # d loss / d logit is the probability, minus 1 at the target.
                values.sub_(total).exp_().scatter_add_(1, target, values.new_full((), -1.0).expand_as(target))
                if slope is not None:
                    values.mul_(slope)
                gradient[part] = values.to(weight.dtype) @ weight
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * outer[0][:, None]).to(gradient.dtype), None, None, None, None
