"""Packs: rows do not attend to each other, so that a pack's loss is the sum of its rows' losses."""

from pathlib import Path

import pytest
import torch

from steps.common.model.packs import IGNORE_INDEX, TokenRow, pack, scored_logits, to_tensors


def row(*tokens: int, given: int = 1) -> TokenRow:
    return TokenRow(list(tokens), [IGNORE_INDEX] * given + list(tokens[given:]))


def test_every_row_is_in_exactly_one_pack_of_at_most_the_budget() -> None:
    rows = [row(*range(5, 5 + length)) for length in (3, 9, 4, 12, 5, 2, 7)]
    packs = list(pack(rows, 10))
    assert sorted(len(r.input_ids) for p in packs for r in p) == [2, 3, 4, 5, 7, 9, 12]
    assert [len(p) for p in packs if len(p[0].input_ids) == 12] == [1]
    assert all(sum(len(r.input_ids) for r in p) <= 10 for p in packs if len(p) > 1)
    assert list(pack(list(reversed(rows)), 10)) == packs


def test_a_pack_has_the_loss_and_gradients_of_its_separate_rows(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    rows = [row(*torch.randint(5, 300, (n,)).tolist(), given=n // 2) for n in (11, 17, 6)]

    def loss_and_gradient(batches: list[list[TokenRow]]) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        losses = []
        for batch in batches:
            logits, targets = scored_logits(model, to_tensors(batch))
            losses.append(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
        total = torch.stack(losses).sum()
        total.backward()
        return total.item(), model.model.layers[0].mlp.up_proj.weight.grad.clone()

    together, gradient = loss_and_gradient([rows])
    apart, each = loss_and_gradient([[r] for r in rows])
    assert together == pytest.approx(apart, rel=1e-5)
    assert torch.allclose(gradient, each, atol=1e-5)


def test_the_loss_is_the_same_as_transformers_own(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    one = row(*range(20, 40), given=8)
    tensors = to_tensors([one])
    logits, targets = scored_logits(model, tensors)
    ours = torch.nn.functional.cross_entropy(logits, targets)
    theirs = model(input_ids=tensors["input_ids"], labels=tensors["labels"]).loss
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_a_pack_is_padded_to_a_multiple_of_16() -> None:
    for length in (1, 15, 16, 17):
        tensors = to_tensors([row(*range(5, 5 + length))])
        assert {tensor.shape for tensor in tensors.values()} == {(1, 32 if length == 17 else 16)}
