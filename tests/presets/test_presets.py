"""The presets: complete, consistent, and suggested when a name is misspelt."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from presets.architecture import Architecture
from presets.gpu_preset import CLOUDS, GpuFileError, GpuPreset, gpu_presets, speeds
from presets.model_preset import ModelPreset, UnknownPresetError, find, model_presets
from tests.support.source import CONFIG

PRESETS = model_presets()
FAMILIES = {"Falcon", "Mistral", "Phi", "Llama", "Qwen", "DeepSeek", "Gemma", "gpt-oss", "SmolLM2"}
# In billions, as the models' own cards say.
PUBLISHED = {
    "falcon-7b": 6.92,
    "falcon-40b": 41.3,
    "mistral-7b-instruct": 7.25,
    "phi-2": 2.78,
    "phi-4": 14.7,
    "llama-3.1-8b-instruct": 8.03,
    "llama-3.3-70b-instruct": 70.55,
    "qwen2.5-72b-instruct": 72.7,
    "qwen3-8b": 8.19,
    "deepseek-v3-0324": 671.0,
    "gemma-3-27b-instruct": 27.4,
    "gpt-oss-20b": 20.9,
    "gpt-oss-120b": 116.8,
    "smollm2-135m-instruct": 0.1345,
}


def test_every_family_is_there() -> None:
    assert {preset.family for preset in PRESETS.values()} == FAMILIES
    assert len(PRESETS) > 50


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_a_preset_is_pinned_whole_and_of_one_piece(preset: ModelPreset) -> None:
    file = Path(__file__).parents[2] / "presets" / "models" / f"{preset.name}.yaml"
    assert file.read_text().startswith("# Constants from the model's own config.json")
    for name, source in preset.sources.items():
        scheme, _, rest = source.uri.partition("://")
        assert scheme == name
        assert rest
    assert re.fullmatch(r"hf://[\w.-]+/[\w.-]+@[0-9a-f]{40}", preset.sources["hf"].uri)
    shape, weights = preset.architecture, preset.sources["hf"].bytes
    assert shape.heads % shape.kv_heads == 0
    assert shape.hidden % 8 == 0
    assert preset.lora_targets
    assert preset.licence
    assert bool(preset.chat.style) or not preset.chat.end_of_turn
    # Bytes on disk are two a parameter, but for what is published quantised, or with a copy of a tied head.
    a_parameter = weights / shape.parameters
    if preset.cannot_be_tuned and "vision" not in preset.cannot_be_tuned:
        assert 0.4 < a_parameter < 1.3
    elif "FP8" not in preset.cannot_be_tuned:
        assert 1.99 < a_parameter < 2.7


@pytest.mark.parametrize(("name", "billions"), PUBLISHED.items())
def test_its_constants_give_the_number_of_parameters_that_its_card_says(name: str, billions: float) -> None:
    assert PRESETS[name].architecture.parameters / 1e9 == pytest.approx(billions, rel=0.004)


def test_an_expert_counts_where_it_is_used() -> None:
    shape = PRESETS["deepseek-v3-0324"].architecture
    assert shape.active_parameters / 1e9 == pytest.approx(37.0, rel=0.02)
    assert PRESETS["gpt-oss-120b"].architecture.active_parameters / 1e9 == pytest.approx(5.1, rel=0.15)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("llama-3.1-8b", "llama-3.1-8b-instruct"),
        ("qwen3-8", "qwen3-8b"),
        ("smollm2-135m-instruct:pip", "smollm2-135m-instruct:pypi"),
    ],
)
def test_a_name_that_is_mistyped_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(UnknownPresetError, match=re.escape(f"did you mean '{meant}'")):
        find(typed)


def test_other_models_are_read_from_their_own_config() -> None:
    read = Architecture.from_config(CONFIG)
    assert (read.kv_heads, read.head_dim, read.mlp, read.tied_embeddings) == (4, 16, "gated", False)
    falcon = {
        "model_type": "falcon",
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "vocab_size": 100,
        "multi_query": True,
    }
    read = Architecture.from_config(falcon)
    assert (read.kv_heads, read.intermediate, read.mlp, read.tied_embeddings, read.context) == (
        1,
        256,
        "plain",
        True,
        2048,
    )


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"quantization_config": {"quant_method": "awq"}}, "is published quantised"),
        ({"vision_config": {"hidden_size": 8}}, "has a vision tower"),
        ({"num_local_experts": 8}, "is a mixture of experts"),
        ({"n_routed_experts": 256}, "is a mixture of experts"),
    ],
)
def test_what_cannot_be_tuned_is_told_by_its_config(more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Architecture.from_config({**CONFIG, **more})


@pytest.mark.parametrize(
    "name",
    [
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
    ],
)
def test_a_constant_that_a_config_lacks_is_named_as_other_configs_name_it(name: str) -> None:
    without = {key: value for key, value in CONFIG.items() if key != name}
    for config in (without, {**CONFIG, name: None}):
        with pytest.raises(KeyError, match=f"^'{name}'$"):
            Architecture.from_config(config)


def test_a_constant_that_is_mistyped_in_a_preset_is_refused() -> None:
    given = PRESETS["qwen3-8b"].model_dump()
    given["architecture"]["layer"] = 3
    with pytest.raises(ValidationError, match="layer"):
        ModelPreset.model_validate(given)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_instance_type_has_a_gpu_that_is_known_and_a_price_with_its_day(cloud: Any) -> None:
    found = gpu_presets(cloud)
    assert len({preset.instance_type for preset in found}) == len(found) > 20
    for preset in found:
        assert preset.gpu in speeds()
        assert preset.region
        assert preset.on_demand is None or re.fullmatch(r"20\d\d-\d\d-\d\d", preset.priced_on)
        assert preset.on_demand is None or 0.1 < preset.on_demand < 200
        assert preset.spot is None or preset.on_demand is None or preset.spot < preset.on_demand
        assert 15 < preset.gpu_mib / 1024 < 300


def test_what_is_known_of_prices() -> None:
    """Two that everybody knows."""
    aws = {preset.instance_type: preset for preset in gpu_presets("aws")}
    assert (aws["p5.48xlarge"].gpus, aws["p5.48xlarge"].gpu, aws["g6.xlarge"].gpu) == (8, "H100", "L4")
    assert "no bf16" in aws["g4dn.xlarge"].why_unfit
    assert "ARM" in aws["g5g.xlarge"].why_unfit
    assert not aws["g6.xlarge"].why_unfit


def test_a_file_of_the_users_own_adds_types_and_changes_prices(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(
        "# our contract\ninstance_type,gpu,gpus,gpu_mib,on_demand,priced_on\n"
        "g6.xlarge,L4,1,22888,0.5,2026-11-01\nbig-box,H100,2,81559,3.0,2026-11-01\n"
    )
    found = {preset.instance_type: preset for preset in gpu_presets("aws", file)}
    assert (found["g6.xlarge"].on_demand, found["big-box"].gpus) == (0.5, 2)
    assert len(found) == len(gpu_presets("aws")) + 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("instance_type,gpu,gpus,gpu_mib\na,L4,one,1\n", "mine.csv:2: gpus: "),
        ("instance_type,gpu,gpus\n\n# x\na,L4,1\n", "mine.csv:4: gpu_mib: field required"),
        ("instance_type,gpu,gpus,gpu_mib,on_demand\na,L4,1,1,inf\n", "mine.csv:2: on_demand: input should be a finite"),
        ("instance_type,cloud,gpu,gpus,gpu_mib\na,ibm,L4,1,1\n", "mine.csv:2: cloud: input should be 'aws'"),
        ("instance_type,gpu,gpus,gpu_mib,prise\na,L4,1,1,2\n", "mine.csv:2: prise: .*the columns are instance_type"),
    ],
)
def test_a_file_of_the_users_own_that_is_wrong_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(GpuFileError, match=told):
        gpu_presets("aws", file)
    with pytest.raises(GpuFileError, match="cannot be read"):
        gpu_presets("aws", tmp_path / "none.csv")


def test_an_instance_type_may_leave_out_what_is_not_known() -> None:
    preset = GpuPreset.model_validate({"instance_type": "a", "gpu": "X", "gpus": "1", "gpu_mib": "1000", "spot": ""})
    assert (preset.spot, preset.compute_capability, preset.why_unfit) == (None, None, "")


def test_a_row_of_ones_own_is_of_the_cloud_that_it_says_or_that_has_the_type(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(
        "instance_type,cloud,gpu,gpus,gpu_mib,on_demand\n"
        "g6.xlarge,,L4,1,23034,0.5\nlab-1,azure,L4,1,23034,0\nlab-2,,L4,1,23034,0\n"
    )
    added = {
        cloud: [one.instance_type for one in gpu_presets(cloud, file) if one.on_demand in (0, 0.5)] for cloud in CLOUDS
    }
    assert added == {"aws": ["g6.xlarge", "lab-2"], "azure": ["lab-1", "lab-2"], "gcp": ["lab-2"]}
