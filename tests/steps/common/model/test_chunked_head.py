"""The chunked head: the same losses and gradients as with full logits, a few positions at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.tuning import Tune
from steps.common.model import chunked_head
from steps.common.model.packs import IGNORE_INDEX, TokenRow, scored_logits, to_tensors, token_losses, token_scores


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_head, "CHUNK_VALUES", 1)  # so that a chunk is SMALLEST_CHUNK positions


def pack() -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    ids = [torch.randint(5, 150, (length,)).tolist() for length in (31, 47, 6)]
    return to_tensors([TokenRow(row, [IGNORE_INDEX] * 3 + row[3:]) for row in ids])


def small(model_type: str, **more: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "vocab_size": 160,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "head_dim": 16,
    }
    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **sizes, **more), dtype=torch.float32)


# Plain; tied; with a bias; with a softcap.
HEADS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"tie_word_embeddings": True}),
    ("phi", {}),
    ("gemma2", {"final_logit_softcapping": 0.5, "query_pre_attn_scalar": 16}),
]


@pytest.mark.parametrize("config", HEADS)
def test_scores_are_the_same_as_with_full_logits(config: tuple[str, dict[str, Any]]) -> None:
    model = small(config[0], **config[1])
    with torch.inference_mode():
        whole = token_scores(model, pack())
        chunked_head.chunk_head(model)
        ours = token_scores(model, pack())
    assert torch.allclose(ours[0], whole[0], atol=1e-5)
    assert torch.equal(ours[1], whole[1])


@pytest.mark.parametrize("config", HEADS)
def test_losses_and_gradients_are_the_same_as_with_full_logits(config: tuple[str, dict[str, Any]]) -> None:
    model = small(config[0], **config[1])
    model.get_output_embeddings().requires_grad_(False)
    watched = next(p for name, p in model.named_parameters() if "layers.0" in name and p.dim() == 2)
    weights = torch.rand(int((pack()["labels"][0, 1:] != IGNORE_INDEX).sum()))

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        losses = token_losses(model, pack())
        (losses * weights).sum().backward()
        assert watched.grad is not None
        return losses.detach(), watched.grad.clone()

    losses, gradient = both()
    chunked_head.chunk_head(model)
    assert chunked_head.head_is_chunked(model)
    ours, ours_gradient = both()
    assert torch.allclose(ours, losses, atol=1e-5)
    assert torch.allclose(ours_gradient, gradient, atol=1e-5)
    assert scored_logits(model, pack())[0].shape == (len(losses), 160)  # without `losses_of`, it still returns logits


def test_a_head_that_scales_its_logits_is_left_unchanged() -> None:
    model = small("cohere", logit_scale=0.0625)
    before = token_losses(model, pack())
    chunked_head.chunk_head(model)
    assert not chunked_head.head_is_chunked(model)
    assert torch.equal(token_losses(model, pack()), before)


def test_a_pack_without_labels_has_no_losses() -> None:
    model = small("llama")
    model.get_output_embeddings().requires_grad_(False)
    chunked_head.chunk_head(model)
    losses = token_losses(model, to_tensors([TokenRow([7] * 9, [IGNORE_INDEX] * 9)]))
    losses.sum().backward()
    assert losses.shape == (0,)


@pytest.mark.parametrize("activations", ["kept", "recomputed"])
def test_the_full_logits_are_never_materialised(tiny_model: Path, activations: Any) -> None:
    from steps.tune.adapted_model import load_adapted_model

    model, _ = load_adapted_model(tiny_model, Tune(rank=2, method="lora"), "cpu", activations=activations)
    given = pack()
    scored, vocabulary = int((given["labels"][0, 1:] != IGNORE_INDEX).sum()), model.config.vocab_size
    width = model.config.hidden_size  # the transposed weight of the head also has the vocabulary as its last dimension
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            found = function(*args, **(kwargs or {}))
            for one in found if isinstance(found, tuple | list) else [found]:
                if isinstance(one, torch.Tensor) and one.shape[-1:] == (vocabulary,) and one.shape[0] != width:
                    largest = max(largest, one.shape[0])
            return found

    with Sizes():
        token_losses(model, given).sum().backward()
    assert 0 < largest <= chunked_head.SMALLEST_CHUNK < scored
