"""What is refused before any server is started."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from steps.common.adapters import BASE, CONFIG, WEIGHTS, Base
from steps.common.errors import RefusedError
from steps.rollout.checks import check_adapter, check_model


class Planned:
    """As much of a resolved recipe as the check reads."""

    class model:  # noqa: N801
        uri, digest = "hf://a/b@c", "d" * 64


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    save_file({"a": torch.zeros(2)}, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text("{}")
    base = Base(uri="hf://a/b@c", digest="d" * 64, method="lora", quantised=[], packages={})
    (tmp_path / BASE).write_text(base.model_dump_json())
    return tmp_path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4)}, tmp_path / "model.safetensors")
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_what_can_be_served_is_not_refused(adapter: Path, model: Path) -> None:
    planned: Any = Planned()
    check_adapter(planned, adapter)
    (model / WEIGHTS).unlink()
    assert check_model(model) == (model / "model.safetensors").stat().st_size


def test_an_adapter_of_another_base_is_refused(adapter: Path) -> None:
    planned: Any = Planned()
    told = json.loads((adapter / BASE).read_text())
    (adapter / BASE).write_text(json.dumps(told | {"digest": "e" * 64}))
    with pytest.raises(RefusedError, match="learnt on hf://a/b@c"):
        check_adapter(planned, adapter)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, BASE])
def test_an_adapter_that_is_not_whole_is_refused(adapter: Path, name: str) -> None:
    planned: Any = Planned()
    (adapter / name).unlink()
    with pytest.raises(RefusedError, match=f"{name} is not there"):
        check_adapter(planned, adapter)


def test_weights_that_were_cut_off_are_refused(model: Path) -> None:
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(RefusedError, match="is not whole"):
        check_model(model)
    (model / "model.safetensors").write_bytes(b"<html>not found</html>" * 10)
    with pytest.raises(RefusedError, match="is no safetensors file"):
        check_model(model)


def test_a_folder_without_weights_or_config_is_refused(model: Path) -> None:
    (model / "config.json").unlink()
    with pytest.raises(RefusedError, match=r"config\.json is not there"):
        check_model(model)
    (model / "model.safetensors").unlink()
    with pytest.raises(RefusedError, match="has no weights"):
        check_model(model)
