"""LoRA and its variants: the merged model matches the model with its adapter, up to rounding."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.tuning import Tune
from steps.common.adapter.adapter_files import BASE_FILE, CONFIG_FILE, AdapterBase
from steps.common.adapter.merge import merge_into_base
from steps.common.model import base_model
from steps.common.model.packs import IGNORE_INDEX, TokenRow, scored_logits, to_tensors, token_losses
from steps.common.runtime.errors import UserError

VARIANTS: list[dict[str, Any]] = [{}, {"rslora": True}, {"dora": True}, {"rslora": True, "dora": True}]


def pack() -> dict[str, torch.Tensor]:
    ids = [[3 + (step * number) % 250 for number in range(1, length)] for step, length in ((7, 12), (11, 28))]
    return to_tensors([TokenRow(row, [IGNORE_INDEX, *row[1:]]) for row in ids])


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model, stored and computed in fp32, so that only the merge itself can make a difference."""
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(base_model, "compute_dtype", lambda _: "float32")
    AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def trained(base: Path, tune: Tune) -> tuple[Any, list[str]]:
    """Return the model with an adapter that was trained for a few steps, so that each of its parts has an effect."""
    from steps.tune.adapted_model import load_adapted_model

    model, quantised = load_adapted_model(base, tune, "cpu", activations="kept")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-2)
    for _ in range(3):
        token_losses(model, pack()).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), quantised


def saved(model: Any, quantised: list[str], folder: Path) -> Path:
    model.save_pretrained(folder)
    kept = AdapterBase(uri="x", digest="tiny", method="any", quantised=quantised, packages={})
    (folder / BASE_FILE).write_text(kept.model_dump_json())
    return folder


def logits_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return scored_logits(model.eval(), pack())[0]


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: "-".join(one) or "plain")
def test_the_merged_model_matches_the_model_with_its_adapter(
    base: Path, tmp_path: Path, method: Any, variant: dict[str, Any]
) -> None:
    model, quantised = trained(base, Tune(rank=4, method=method, **variant))
    assert bool(quantised) is (method == "qlora")
    folder = merge_into_base(base, saved(model, quantised, tmp_path / "adapter"))
    after = logits_of(base_model.load_base_model(folder, "cpu", in_4_bits=False))
    with_adapter = logits_of(model)
    assert torch.allclose(after, with_adapter, atol=1e-4)
    with model.disable_adapter():
        assert not torch.allclose(logits_of(model), with_adapter, atol=0.1)


def test_in_bf16_they_match_up_to_bf16_rounding(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_model, "compute_dtype", lambda _: "bfloat16")
    model, quantised = trained(tiny_model, Tune(rank=4, dora=True))
    folder = merge_into_base(tiny_model, saved(model, quantised, tmp_path / "adapter"))
    after, with_adapter = logits_of(base_model.load_base_model(folder, "cpu", in_4_bits=False)), logits_of(model)
    assert torch.corrcoef(torch.stack([after.flatten(), with_adapter.flatten()]))[0, 1] > 0.999
    assert torch.allclose(after, with_adapter, atol=0.1, rtol=0.05)


def test_layers_are_merged_with_their_own_rank_and_alpha(base: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules="all-linear",
        rank_pattern={"layers.0.mlp.up_proj": 2},
        alpha_pattern={"layers.1.mlp.up_proj": 3, "up_proj": 64},
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base_model.load_base_model(base, "cpu", in_4_bits=False), config)
    folder = merge_into_base(base, saved(model, [], tmp_path / "adapter"))
    assert torch.allclose(
        logits_of(base_model.load_base_model(folder, "cpu", in_4_bits=False)), logits_of(model), atol=1e-4
    )


@pytest.mark.parametrize("dora", [False, True])
def test_transposed_weights_are_merged(tmp_path: Path, dora: bool) -> None:
    """GPT-2's layers are transformers' Conv1D, with weights of shape (in, out); one of them is square."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, GPT2Config

    shape = GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    AutoModelForCausalLM.from_config(shape).save_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = get_peft_model(
        model, LoraConfig(r=4, target_modules=["c_attn", "c_proj"], init_lora_weights=dora, use_dora=dora)
    )
    for name, parameter in model.named_parameters():
        if dora and parameter.requires_grad:
            parameter.data += 0.1 * torch.rand_like(parameter) * ("lora_B" in name or "magnitude" in name)
    folder = merge_into_base(tmp_path / "base", saved(model, [], tmp_path / "adapter"))
    assert torch.allclose(logits_of(AutoModelForCausalLM.from_pretrained(folder)), logits_of(model), atol=1e-4)


def test_a_weight_that_cannot_be_merged_is_refused_by_name(base: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["norm"], task_type="CAUSAL_LM")
    model = get_peft_model(base_model.load_base_model(base, "cpu", in_4_bits=False), config)
    with pytest.raises(UserError, match=r"norm\.weight cannot be merged"):
        merge_into_base(base, saved(model, [], tmp_path / "adapter"))


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_on_the_embedding_or_the_head_is_refused(base: Path, target: str) -> None:
    from steps.tune.adapted_model import load_adapted_model

    with pytest.raises(UserError, match=rf"tune\.targets: .*{target} is the model's embedding or head"):
        load_adapted_model(base, Tune(method="lora", targets=["q_proj", target]), "cpu", activations="kept")


def test_the_adapter_config_matches_the_recipe(base: Path, tmp_path: Path) -> None:
    model, quantised = trained(base, Tune(rank=4, method="lora", rslora=True, dora=True))
    config = json.loads((saved(model, quantised, tmp_path / "adapter") / CONFIG_FILE).read_text())
    assert config["use_rslora"] and config["use_dora"]
    shutil.rmtree(tmp_path / "adapter")


@pytest.mark.parametrize("paged", [False, True], ids=["adamw", "paged 8-bit adamw"])
def test_lora_plus_sets_a_learning_rate_for_the_second_matrix(base: Path, tmp_path: Path, paged: bool) -> None:
    from transformers import TrainingArguments

    from steps.tune.adapted_model import load_adapted_model
    from steps.tune.loop.lora_plus import lora_plus_optimizer

    name = "paged_adamw_8bit" if paged else "adamw_torch"
    arguments = TrainingArguments(output_dir=str(tmp_path), learning_rate=1e-3, optim=name, use_cpu=True)
    tune = Tune(rank=4, method="lora", lora_plus=16, weight_decay=0.1)
    model, _ = load_adapted_model(base, tune, "cpu", activations="kept")
    assert lora_plus_optimizer(model, arguments, Tune()) is None
    made = lora_plus_optimizer(model, arguments, tune)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in made.param_groups for p in group["params"]}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[id(parameter)] == (pytest.approx(1.6e-2 if "lora_B" in key else 1e-3), 0.1)
