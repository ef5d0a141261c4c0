"""Compiled layers train to the same losses as plain ones."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.tuning import Tune
from steps.common.model.packs import TokenRow, to_tensors, token_losses
from steps.common.runtime.errors import UserError
from steps.tune.layer_compilation import check_compiler, fixed_pack_length


def packs() -> list[list[TokenRow]]:
    lengths = [(12, 28), (9, 9, 9), (40,)]
    return [[TokenRow(list(range(5, 5 + n)), list(range(5, 5 + n))) for n in pack] for pack in lengths]


LONGEST = 40  # tokens of a pack


def losses(base: Path, *, compiled: bool, activations: Any) -> list[float]:
    from steps.tune.adapted_model import load_adapted_model

    model, _ = load_adapted_model(base, Tune(rank=4, method="lora", compile=compiled), "cpu", activations=activations)
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    length = fixed_pack_length(LONGEST)(packs()[0]) if compiled else 0
    found = []
    for pack in packs() * 2:
        loss = token_losses(model, to_tensors(pack, length)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")
@pytest.mark.parametrize("activations", ["kept", "recomputed"])
def test_compiled_layers_train_to_the_same_losses(tiny_model: Path, activations: Any) -> None:
    from torch._dynamo.utils import counters

    plain = losses(tiny_model, compiled=False, activations=activations)
    counters.clear()
    compiled = losses(tiny_model, compiled=True, activations=activations)
    assert compiled == pytest.approx(plain, rel=2e-2)
    assert plain[-1] < plain[0]
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"]


def test_every_pack_is_padded_to_the_longest(tiny_model: Path) -> None:
    length = fixed_pack_length(LONGEST)(packs()[0])
    assert length == 48
    assert {tensor.shape for pack in packs() for tensor in to_tensors(pack, length).values()} == {(1, 48)}
    rows = to_tensors(packs()[1], length)["position_ids"][0]
    assert rows[:27].tolist() == list(range(9)) * 3
    assert rows[27:].tolist() == list(range(21))


def test_a_part_of_a_pack_is_padded_to_a_half_or_a_quarter_of_that() -> None:
    length_of = fixed_pack_length(64)
    rows = [TokenRow(list(range(tokens)), []) for tokens in (64, 33, 32, 17, 9)]
    assert [length_of([row]) for row in rows] == [64, 64, 32, 32, 16]


def test_compile_is_refused_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for name in ("CXX", "CC"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"tune\.compile: there is no C\+\+ compiler here"):
        check_compiler()
