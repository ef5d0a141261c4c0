"""Each model family of the presets, as a two-layer model: it can be adapted and merged, and its packed rows are isolated."""

import json
from pathlib import Path
from typing import Any

import pytest

from presets.architecture import Architecture
from presets.model_preset import model_presets
from recipes.tuning import Tune
from steps.common.adapter.adapter_files import BASE_FILE, AdapterBase
from steps.common.adapter.merge import merge_into_base
from steps.common.model.packs import TokenRow, isolates_rows, scored_logits, to_tensors
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.plan.model import check_tunable

SMALL: dict[str, Any] = {
    "vocab_size": 160,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GEMMA = {"head_dim": 16, "sliding_window": 32, "query_pre_attn_scalar": 16}
FALCON = {"alibi": False, "bias": False, "parallel_attn": True, "num_key_value_heads": None}
# By the preset whose layer names the model must have: configuration class and settings.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-3.1-8b-instruct": ("LlamaConfig", {}),
    "mistral-7b-instruct": ("MistralConfig", {"sliding_window": None}),
    "phi-2": ("PhiConfig", {"partial_rotary_factor": 0.5}),
    "phi-4": ("Phi3Config", {}),
    "qwen2.5-7b-instruct": ("Qwen2Config", {}),
    "qwen3-8b": ("Qwen3Config", {"head_dim": 16}),
    "gemma-2-9b-instruct": ("Gemma2Config", GEMMA),
    "gemma-3-1b-instruct": ("Gemma3TextConfig", GEMMA),
    "falcon-7b": ("FalconConfig", {**FALCON, "multi_query": True, "new_decoder_architecture": False}),
    "falcon-40b": ("FalconConfig", {**FALCON, "num_kv_heads": 2, "new_decoder_architecture": True}),
}
FALCONS = {"falcon-7b", "falcon-40b"}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    import torch
    import transformers

    name, more = FAMILIES[request.param]
    config = getattr(transformers, name)(**{k: v for k, v in {**SMALL, **more}.items() if v is not None})
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "base")
    return request.param, tmp_path / "base"


def rows() -> list[TokenRow]:
    ids = [[3 + (step * number) % 150 for number in range(1, length)] for step, length in ((7, 12), (11, 18), (13, 9))]
    return [TokenRow(row, row) for row in ids]


def tuned(base: Path, name: str, activations: Any = "kept") -> tuple[Any, list[str]]:
    """Return the model with an adapter that has an effect, and the names of its quantised layers."""
    import torch

    from steps.tune.adapted_model import load_adapted_model

    preset = model_presets()[name]
    tune = Tune(rank=4, method="lora" if preset.cannot_be_quantised else "qlora")
    model, quantised = load_adapted_model(base, tune, "cpu", activations=activations, targets=preset.lora_targets)
    torch.manual_seed(5)
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            parameter.data = torch.randn_like(parameter) * 0.02
    return model, quantised


def test_the_architecture_is_read_from_the_config(family: tuple[str, Path]) -> None:
    name, base = family
    shape = Architecture.from_config(json.loads((base / "config.json").read_text()))
    preset = model_presets()[name].architecture
    assert (shape.layers, shape.hidden, shape.mlp) == (2, 64, preset.mlp)
    import safetensors.torch

    held = {k: v for file in base.glob("*.safetensors") for k, v in safetensors.torch.load_file(file).items()}
    counted = sum(tensor.numel() for tensor in held.values() if tensor.dim() == 2)
    # Falcon's files contain the head in addition to the embedding that it is tied to.
    twice = shape.vocabulary * shape.hidden if name in FALCONS and "lm_head.weight" in held else 0
    assert counted - twice == shape.parameters


def test_a_presets_targets_are_all_linear_layers_and_each_is_quantised(family: tuple[str, Path]) -> None:
    name, base = family
    model, quantised = tuned(base, name)
    given = {key.split(".lora_A")[0].rsplit(".", 1)[-1] for key, _ in model.named_parameters() if "lora_A" in key}
    assert given == set(model_presets()[name].lora_targets)
    assert {layer.rsplit(".", 1)[-1] for layer in quantised} == (set() if name in FALCONS else given)


def test_a_model_that_cannot_be_quantised_is_refused_with_qlora(family: tuple[str, Path]) -> None:
    name, base = family
    assert bool(model_presets()[name].cannot_be_quantised) is (name in FALCONS)
    if name not in FALCONS:
        return
    from steps.tune.adapted_model import load_adapted_model

    with pytest.raises(UserError, match=r"set tune\.method=lora"):
        load_adapted_model(base, Tune(method="qlora"), "cpu", activations="kept")
    with pytest.raises(UserError, match=r"falcon-\d+b cannot be tuned with qlora"):
        check_tunable(name, "qlora")


def test_packed_rows_are_isolated_or_it_is_noticed(family: tuple[str, Path]) -> None:
    import torch

    name, base = family
    model, _ = tuned(base, name)
    assert isolates_rows(model) is (name not in FALCONS)

    def loss(packs: list[list[TokenRow]]) -> float:
        total = 0.0
        with torch.inference_mode():
            for pack in packs:
                logits, targets = scored_logits(model, to_tensors(pack))
                total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
        return total

    model.eval()
    together, alone = loss([rows()]), loss([[row] for row in rows()])
    assert (abs(together - alone) < 1e-2) is isolates_rows(model)


def test_offloaded_and_recomputed_activations_give_the_same_gradients(family: tuple[str, Path]) -> None:
    import torch

    name, base = family
    found = []
    for activations in ("kept", "recomputed", "offloaded"):
        model, _ = tuned(base, name, activations)
        model.train()
        logits, targets = scored_logits(model, to_tensors(rows()[:1]))
        torch.nn.functional.cross_entropy(logits, targets).backward()
        found.append({key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None})
    for other in found[1:]:
        assert other.keys() == found[0].keys() != set()
        assert all(torch.allclose(other[key], found[0][key], atol=2e-3) for key in other)


def test_the_merged_model_matches_the_model_with_its_adapter(
    family: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv(volumes.RUNS_SETTING, str(tmp_path / "runs"))
    name, base = family
    model, quantised = tuned(base, name)
    model.save_pretrained(tmp_path / "adapter")
    kept = AdapterBase(uri="x", digest=name, method="any", quantised=quantised, packages={})
    (tmp_path / "adapter" / BASE_FILE).write_text(kept.model_dump_json())
    whole = AutoModelForCausalLM.from_pretrained(
        merge_into_base(base, tmp_path / "adapter"), dtype=torch.float32
    ).eval()
    model.eval()
    with torch.inference_mode():
        before, _ = scored_logits(model, to_tensors(rows()[:1]))
        after, _ = scored_logits(whole, to_tensors(rows()[:1]))
    assert torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1] > 0.999
