"""What makes an adapter unservable is found before a server is started."""

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


def test_a_fitting_adapter_is_accepted(adapter: Path, tiny_model: Path) -> None:
    assert refusals(adapter, tiny_model, largest_rank=8, served_base="/models/tiny") == []


def test_a_file_that_other_users_cannot_read_is_refused(kept: Path, adapter: Path) -> None:
    assert refusals(kept)[-1] == f"{WEIGHTS_FILE} is not readable by other users (chmod o+r)"
    assert refusals(adapter) == []
    adapter.chmod(0o700)
    assert refusals(adapter) == ["adapter is not readable by other users (chmod o+r)"]


def test_what_vllm_does_not_support_can_be_served_merged(adapter: Path) -> None:
    assert refusals(adapter, largest_rank=4) == ["its rank 8 exceeds the server's maximum of 4"]
    name, up = first(adapter, "B")
    change(adapter, **{name.replace("lora_B.weight", "lora_magnitude_vector"): torch.ones(up.shape[0])})
    assert refusals(adapter, largest_rank=8) == ["it is a DoRA adapter, which can only be served merged"]
    assert refusals(adapter) == []
    change(adapter, **{"base_model.model.model.norm.weight": torch.ones(64)})
    assert refusals(adapter, largest_rank=8)[1].endswith(
        "tensors other than LoRA's: base_model.model.model.norm.weight"
    )


def test_another_base_is_recognised_by_its_name_and_by_its_shapes(
    adapter: Path, tiny_model: Path, tmp_path: Path
) -> None:
    assert refusals(adapter, served_base="/models/other") == [
        "it was made for the base '/models/tiny', but '/models/other' is served"
    ]
    other = tmp_path / "other"
    other.mkdir()
    tensors = load_file(next(tiny_model.glob("*.safetensors")))
    wider = {name: torch.cat([one, one], 0) if one.dim() == 2 else one for name, one in tensors.items()}
    save_file(wider, other / "model.safetensors")
    assert "does not fit the base's shape" in refusals(adapter, other)[0]
    save_file({"x": torch.ones(1)}, other / "model.safetensors")
    assert refusals(adapter, other)[0].endswith("which the base does not have")


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_nan_or_infinite_value_is_found(adapter: Path, kind: Any, value: float) -> None:
    name, one = first(adapter, "A")
    one = one.to(kind)
    change(adapter, **{name: one})
    assert refusals(adapter) == []
    one[-1, -1] = value
    change(adapter, **{name: one})
    assert refusals(adapter) == [f"{name} contains NaN or infinite values"]


def test_missing_or_truncated_files_are_named(adapter: Path) -> None:
    whole = (adapter / WEIGHTS_FILE).read_bytes()
    for cut in (0, 4, 100, len(whole) - 1):
        (adapter / WEIGHTS_FILE).write_bytes(whole[:cut])
        assert refusals(adapter) == [f"{WEIGHTS_FILE} is not a complete safetensors file"]
    (adapter / CONFIG_FILE).unlink()
    assert refusals(adapter) == [f"{CONFIG_FILE} is missing"]


def test_a_configuration_that_cannot_be_read_is_refused(adapter: Path) -> None:
    (adapter / CONFIG_FILE).write_text(json.dumps({})[:-1])
    assert len(refusals(adapter)) == 1
