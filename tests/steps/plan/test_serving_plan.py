"""The serving plan: runtime and form from settings and recipe, what fits on the GPU, and what is refused in advance."""

import json
from pathlib import Path
from typing import Any

import pytest

from presets.model_preset import model_presets
from recipes.reader import RecipeError, load
from steps.common.adapter.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from steps.common.adapter.vllm_limits import MAX_LORA_RANKS, required_max_lora_rank, vllm_refusals
from steps.common.handover.resolved import KnownModel
from steps.common.runtime.errors import RefusedError, UserError
from steps.common.structured.parse_calls import FORMATS
from steps.plan.model import known_model
from steps.plan.serving_plan import ServingSettings, in_words, plan_serving
from steps.plan.vllm_parsers import _known
from steps.rollout.pods.object_names import of_version
from steps.rollout.vllm.adapter_folder import published_adapter

LLAMA = "llama-3.1-8b-instruct"


@pytest.fixture
def in_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINELINE_SERVE_IMAGE", "fineline-serve:0.1.0")
    monkeypatch.setenv("FINELINE_VLLM_IMAGE", "vllm/vllm-openai:v0.32.0")
    monkeypatch.setenv("FINELINE_SERVE_INSTANCE_TYPE", "g6.xlarge")


def known(name: str = LLAMA) -> KnownModel:
    return known_model(name)


def found(model: str = LLAMA, **keys: Any) -> Any:
    recipe = load("pet-store", {"model": model} | {key.replace("__", "."): str(value) for key, value in keys.items()})
    return plan_serving(recipe, known(model), ServingSettings.of_environment())


def test_without_an_image_of_vllm_transformers_serves_a_merged_model() -> None:
    assert (found().runtime, found().form) == ("transformers", "merged")
    assert in_words(found()) == "transformers on CPUs, merged into the base"


def test_transformers_too_serves_several_replicas_in_a_cluster_and_one_machine_says_that_it_runs_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(serve__replicas=3).replicas == 1
    assert "serve.replicas: 3 applies to a cluster; this machine runs one server" in capsys.readouterr().err
    monkeypatch.setenv("FINELINE_SERVE_IMAGE", "fineline-serve:0.1.0")
    assert found(serve__replicas=3).replicas == 3
    assert in_words(found(serve__replicas=3)) == "3 replicas of transformers on CPUs, merged into the base"
    assert capsys.readouterr().err == ""


def test_vllm_that_is_wanted_and_not_there_is_refused_with_the_setting() -> None:
    with pytest.raises(UserError, match="FINELINE_VLLM_IMAGE names no image"):
        found(serve__runtime="vllm")
    with pytest.raises(UserError, match=r"serve\.form=adapter: only vLLM"):
        found(serve__form="adapter")


def test_transformers_with_adapters_is_no_recipe() -> None:
    with pytest.raises(RecipeError, match="transformers serves merged models"):
        load("pet-store", {"serve.runtime": "transformers", "serve.form": "adapter"})


@pytest.mark.usefixtures("in_cluster")
def test_where_there_is_an_image_vllm_serves_the_adapter_and_the_quote_says_what_the_cache_holds() -> None:
    how = found()
    assert (how.runtime, how.form, how.gpus, how.rank, how.max_adapters) == ("vllm", "adapter", 1, 16, 4)
    # An L4 of 22.5 GiB: 0.9 of it, less 15 GiB of weights, four adapters and vLLM's own, at 128 KiB a token.
    left = 0.9 * how.gpu_bytes - how.needs_bytes
    assert how.cache_tokens == int(left / (128 << 10))
    assert how.longest == how.cache_tokens < 131072
    assert "vLLM on 1 x L4 of g6.xlarge, adapter of rank 16 or lower beside its base" in in_words(how)
    assert f"{how.cache_tokens} tokens, enough for {how.cache_tokens // 288} concurrent requests of 288" in in_words(
        how
    )


@pytest.mark.usefixtures("in_cluster")
def test_a_model_that_cannot_be_served_there_is_refused_with_what_it_takes() -> None:
    with pytest.raises(UserError, match=r"serve\.instance_type: serving qwen2.5-32b-instruct .* takes .* GiB"):
        found("qwen2.5-32b-instruct")
    assert found("qwen2.5-32b-instruct", serve__instance_type="g6.12xlarge", serve__gpus=4).cache_tokens > 4096


@pytest.mark.usefixtures("in_cluster")
@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"serve__gpus": 2}, "g6.xlarge has 1"),
        ({"serve__gpus": 3}, "32 attention heads cannot be split across 3"),
        ({"serve__instance_type": "g6.xlarg"}, "in no GPU preset"),
    ],
)
def test_gpus_that_are_not_there_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        found(**keys)


@pytest.mark.usefixtures("in_cluster")
def test_the_gpu_may_be_unknown_and_the_form_and_runtime_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(serve__form="merged").form == "merged"
    assert found(serve__runtime="transformers").runtime == "transformers"
    monkeypatch.delenv("FINELINE_SERVE_INSTANCE_TYPE")
    assert found().longest == 0
    assert in_words(found()) == "vLLM on 1 x GPU, adapter of rank 16 or lower beside its base"


def test_the_servers_rank_is_the_smallest_of_vllms_that_is_enough() -> None:
    assert [required_max_lora_rank(rank) for rank in (1, 2, 8, 9, 16, 17, 257, 512)] == [1, 8, 8, 16, 16, 32, 320, 512]
    with pytest.raises(ValueError, match="supports ranks up to 512"):
        required_max_lora_rank(MAX_LORA_RANKS[-1] + 1)


def test_every_reason_for_a_refusal_is_told() -> None:
    plain = {"peft_type": "LORA", "r": 16, "bias": "none", "init_lora_weights": True, "modules_to_save": None}
    assert vllm_refusals(plain, 16) == []
    assert vllm_refusals({**plain, "use_dora": True, "bias": "all"}, 8) == [
        "it is a DoRA",
        "it has a bias",
        "its rank 16 exceeds the server's maximum of 8",
    ]
    assert vllm_refusals({**plain, "init_lora_weights": "gaussian", "use_rslora": True}, 16) == []
    assert vllm_refusals({**plain, "peft_type": "LOHA"}, 16) == ["it is not a LoRA but a LOHA"]


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(json.dumps({"peft_type": "LORA", "r": 8, "base_model_name_or_path": "hf://a/b"}))
    (folder / WEIGHTS_FILE).write_bytes(b"weights")
    (folder / WEIGHTS_FILE).chmod(0o600)  # as safetensors writes it
    return folder


def test_a_published_adapter_names_the_servers_base_and_anybody_can_read_it(adapter: Path) -> None:
    name = of_version("store", 3, "0123456789abcdef")
    assert name == "store--v3-01234567"
    folder = published_adapter(adapter, name, "/models/x")
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
    assert json.loads((folder / CONFIG_FILE).read_text()) == {
        "peft_type": "LORA",
        "r": 8,
        "base_model_name_or_path": "/models/x",
    }
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    written = (folder / WEIGHTS_FILE).stat().st_mtime_ns
    assert published_adapter(adapter, name, "/models/x") == folder
    assert (folder / WEIGHTS_FILE).stat().st_mtime_ns == written


def test_a_folder_that_holds_another_adapter_is_not_served_under_that_name(adapter: Path) -> None:
    folder = published_adapter(adapter, "store-v1-0", "/models/x")
    (folder / WEIGHTS_FILE).write_bytes(b"others")
    with pytest.raises(RefusedError, match="another adapter than its name says; delete the folder"):
        published_adapter(adapter, "store-v1-0", "/models/x")
    with pytest.raises(RefusedError, match="another adapter than its name says; delete the folder"):
        published_adapter(adapter, "store-v1-0", "/models/y")
    (folder / WEIGHTS_FILE).write_bytes(b"weights")
    (folder / WEIGHTS_FILE).chmod(0o600)
    with pytest.raises(RefusedError, match="is not readable by other users"):
        published_adapter(adapter, "store-v1-0", "/models/x")


def test_a_parser_that_vllm_does_not_have_is_refused_with_the_nearest_and_one_of_another_image_is_said(
    in_cluster: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parsers = {preset.chat.tool_parser for preset in model_presets().values()} - {""}
    assert parsers | FORMATS.keys() <= set(_known()["parsers"])
    with pytest.raises(
        UserError, match=r"chat\.tool_parser: vLLM v0\.32\.0 has no parser 'hermess'; did you mean 'hermes'"
    ):
        found(chat__tool_parser="hermess")
    monkeypatch.setenv("FINELINE_VLLM_IMAGE", "registry.example.com/vllm-openai:v0.32.0@sha256:0a")
    with pytest.raises(UserError, match=r"no parser 'zz'; it has apertus, "):
        found(chat__tool_parser="zz")
    monkeypatch.setenv("FINELINE_VLLM_IMAGE", "registry.example.com/own-vllm:1")
    assert "--tool-call-parser=hermess" in found(chat__tool_parser="hermess").arguments
    assert "warning: chat.tool_parser: " in capsys.readouterr().err
