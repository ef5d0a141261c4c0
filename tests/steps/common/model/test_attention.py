"""Attention over packs: in each implementation, a row's loss and gradients are the same packed and on its own."""

from pathlib import Path
from typing import Any

import pytest
import torch

from steps.common.model import attention
from steps.common.model.packs import IGNORE_INDEX, TokenRow, isolates_rows, scored_logits, to_tensors, token_losses

Batch = list[TokenRow]


def rows() -> Batch:
    torch.manual_seed(2)
    ids = [torch.randint(5, 300, (length,)).tolist() for length in (11, 17, 6, 40)]
    return [TokenRow(row, [IGNORE_INDEX] * (len(row) // 2) + row[len(row) // 2 :]) for row in ids]


def plain(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")


def loss_and_gradient(model: Any, batches: list[Batch]) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    total = torch.stack([token_losses(model, to_tensors(batch)).sum() for batch in batches]).sum()
    total.backward()
    return total.item(), model.model.layers[0].self_attn.k_proj.weight.grad.clone()


def reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> torch.Tensor:
    """What `torch.nn.attention.varlen.varlen_attn` is documented to compute; its kernels run on GPUs only."""
    assert q.dim() == k.dim() == v.dim() == 3 and q.shape[0] == k.shape[0] == cu_seq_q[-1]
    assert cu_seq_q is cu_seq_k and cu_seq_q.dtype == torch.int32
    assert max_q == max_k == int(cu_seq_q.diff().max())
    assert window_size == (-1, 0) and enable_gqa
    k, v = (one.repeat_interleave(q.shape[1] // k.shape[1], 1) for one in (k, v))
    found = []
    for begin, end in zip(cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), strict=True):
        weights = torch.einsum("qhd,khd->hqk", q[begin:end], k[begin:end]) * (scale or q.shape[-1] ** -0.5)
        later = torch.ones(end - begin, end - begin).triu(1).bool()
        found.append(torch.einsum("hqk,khd->qhd", weights.masked_fill(later, -torch.inf).softmax(-1), v[begin:end]))
    return torch.cat(found)


@pytest.fixture(params=[attention.BY_ROW, attention.VARLEN])
def packed(request: pytest.FixtureRequest, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model with each of the two implementations; in the GPU's, a reference replaces torch's kernel."""
    model = plain(tiny_model)
    on_gpu = request.param == attention.VARLEN
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", reference)
    monkeypatch.setattr(attention, "_gpu_has_varlen", lambda _: True)
    attention.use_packed_attention(model, "cuda" if on_gpu else "cpu")
    assert model.config._attn_implementation == request.param
    return model


def test_a_pack_has_the_loss_and_gradients_of_its_separate_rows_and_of_sdpa(packed: Any, tiny_model: Path) -> None:
    together, gradient = loss_and_gradient(packed, [rows()])
    apart, each = loss_and_gradient(packed, [[row] for row in rows()])
    masked, of_mask = loss_and_gradient(plain(tiny_model), [rows()])
    assert together == pytest.approx(apart, rel=1e-6) == pytest.approx(masked, rel=1e-6)
    assert torch.allclose(gradient, each, atol=1e-5)
    assert torch.allclose(gradient, of_mask, atol=1e-5)
    assert isolates_rows(packed)


def test_recomputed_activations_change_nothing(packed: Any) -> None:
    _, kept = loss_and_gradient(packed, [rows()])
    packed.activation_checkpointing_enable({"use_reentrant": False})
    packed.train()
    _, again = loss_and_gradient(packed, [rows()])
    assert torch.allclose(kept, again, atol=1e-6)


def test_a_padded_batch_and_generation_are_the_same_as_with_sdpa(packed: Any, tiny_model: Path) -> None:
    other = plain(tiny_model)
    ids = torch.tensor([[7, 8, 9, 10, 11], [0, 0, 7, 8, 9]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    with torch.inference_mode():
        ours, theirs = (m(input_ids=ids, attention_mask=mask).logits for m in (packed, other))
        generated = [
            m.generate(input_ids=ids, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=0)
            for m in (packed, other)
        ]
    assert torch.allclose(ours[mask.bool()], theirs[mask.bool()], atol=1e-5)
    assert torch.equal(*generated)


def test_a_model_that_drops_the_row_boundaries_is_noticed(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = plain(tiny_model)
    attention.use_packed_attention(model, "cpu")
    found = attention.row_bounds
    monkeypatch.setattr(
        attention,
        "row_bounds",
        lambda *given: {name: value for name, value in found(*given).items() if name == "attention_mask"},
    )
    assert not isolates_rows(model)
    alone, _ = scored_logits(model, to_tensors(rows()[1:2]))
    right, _ = scored_logits(plain(tiny_model), to_tensors(rows()[1:2]))
    assert torch.allclose(alone, right, atol=1e-5)


@pytest.mark.parametrize(
    "own",
    [
        {"layer_types": ["sliding_attention", "full_attention"]},
        {"sliding_window": 8},
        {"attn_logit_softcapping": 50.0},
        {"attention_dropout": 0.1},
    ],
)
def test_attention_that_is_not_plain_is_left_unchanged(tiny_model: Path, own: dict[str, Any]) -> None:
    model = plain(tiny_model)
    for name, value in own.items():
        setattr(model.config, name, value)
    attention.use_packed_attention(model, "cpu")
    assert model.config._attn_implementation == "sdpa"
