"""Loading a base: the model itself, and nothing that lies beside it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from steps.common.model.base_model import load_base_model

IDS = torch.arange(3, 23).unsqueeze(0)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(IDS).logits
    return found


@pytest.mark.parametrize("in_4_bits", [False, True])
def test_an_adapter_beside_a_base_is_not_loaded(tiny_model: Path, tmp_path: Path, in_4_bits: bool) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model),
        LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj"]),
    )
    adapted.save_pretrained(folder)
    expected = logits(load_base_model(tiny_model, "cpu", in_4_bits=in_4_bits))
    assert torch.equal(logits(load_base_model(folder, "cpu", in_4_bits=in_4_bits)), expected)
    assert not torch.allclose(logits(AutoModelForCausalLM.from_pretrained(folder)).float(), expected.float(), atol=1e-2)
