"""What an adapter's files say against serving it is said before anything is started."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from steps.common.adapter.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from steps.common.storage.files import publish
from steps.rollout.checks.adapter_check import refusals


@pytest.fixture(scope="module")
def kept(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from recipes.tuning import Tune
    from steps.tune.adapted_model import load_adapted_model

    model, _ = load_adapted_model(tiny_model, Tune(rank=8, method="lora"), "cpu", activations="kept")
    model.peft_config["default"].base_model_name_or_path = "/models/tiny"
    folder = tmp_path_factory.mktemp("kept") / "adapter"
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(kept: Path, tmp_path: Path) -> Path:
    shutil.copytree(kept, tmp_path / "adapter.partial")
    publish(tmp_path / "adapter.partial", tmp_path / "adapter")
    return tmp_path / "adapter"


def change(adapter: Path, **tensors: torch.Tensor) -> None:
    save_file(load_file(adapter / WEIGHTS_FILE) | tensors, adapter / WEIGHTS_FILE)
    (adapter / WEIGHTS_FILE).chmod(0o644)


def first(adapter: Path, side: str) -> tuple[str, torch.Tensor]:
    return next(
        (name, one) for name, one in load_file(adapter / WEIGHTS_FILE).items() if name.endswith(f"lora_{side}.weight")
    )


def test_one_that_suits_is_taken(adapter: Path, tiny_model: Path) -> None:
    assert refusals(adapter, tiny_model, largest_rank=8, served_base="/models/tiny") == []


def test_as_safetensors_writes_it_another_user_cannot_read_it(kept: Path, adapter: Path) -> None:
    assert refusals(kept)[-1] == f"{WEIGHTS_FILE} cannot be read by other users (chmod o+r)"
    assert refusals(adapter) == []
    adapter.chmod(0o700)
    assert refusals(adapter) == ["adapter cannot be read by other users (chmod o+r)"]


def test_what_a_server_of_adapters_does_not_know_is_no_hindrance_merged(adapter: Path) -> None:
    assert refusals(adapter, largest_rank=4) == ["its rank 8 is above the server's 4"]
    name, up = first(adapter, "B")
    change(adapter, **{name.replace("lora_B.weight", "lora_magnitude_vector"): torch.ones(up.shape[0])})
    assert refusals(adapter, largest_rank=8) == ["it is a DoRA, which is served merged alone"]
    assert refusals(adapter) == []
    change(adapter, **{"base_model.model.model.norm.weight": torch.ones(64)})
    assert refusals(adapter, largest_rank=8)[1].endswith("beside those of LoRA: base_model.model.model.norm.weight")


def test_another_base_is_told_by_its_name_and_by_its_shapes(adapter: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert refusals(adapter, served_base="/models/other") == [
        "it was made for the base '/models/tiny', and '/models/other' is served"
    ]
    other = tmp_path / "other"
    other.mkdir()
    tensors = load_file(next(tiny_model.glob("*.safetensors")))
    wider = {name: torch.cat([one, one], 0) if one.dim() == 2 else one for name, one in tensors.items()}
    save_file(wider, other / "model.safetensors")
    assert "is of another shape than the base's" in refusals(adapter, other)[0]
    save_file({"x": torch.ones(1)}, other / "model.safetensors")
    assert refusals(adapter, other)[0].endswith("which the base has not")


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_number_is_found(adapter: Path, kind: Any, value: float) -> None:
    name, one = first(adapter, "A")
    one = one.to(kind)
    change(adapter, **{name: one})
    assert refusals(adapter) == []
    one[-1, -1] = value
    change(adapter, **{name: one})
    assert refusals(adapter) == [f"{name} has values that are no numbers, or infinite"]


def test_files_that_are_missing_or_cut_off_are_named(adapter: Path) -> None:
    whole = (adapter / WEIGHTS_FILE).read_bytes()
    for cut in (0, 4, 100, len(whole) - 1):
        (adapter / WEIGHTS_FILE).write_bytes(whole[:cut])
        assert refusals(adapter) == [f"{WEIGHTS_FILE} is no whole file of safetensors"]
    (adapter / CONFIG_FILE).unlink()
    assert refusals(adapter) == [f"{CONFIG_FILE} is missing"]


def test_a_configuration_that_cannot_be_read_is_refused(adapter: Path) -> None:
    (adapter / CONFIG_FILE).write_text(json.dumps({})[:-1])
    assert len(refusals(adapter)) == 1
