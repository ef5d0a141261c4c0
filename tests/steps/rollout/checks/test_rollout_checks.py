"""What is refused before a server is started."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from steps.common.adapter.adapter_files import BASE_FILE, CONFIG_FILE, WEIGHTS_FILE, AdapterBase
from steps.common.handover.resolved import ServingPlan
from steps.common.runtime.errors import RefusedError
from steps.rollout.checks.before_start import check_adapter, check_model

DIGEST = "d" * 64
LAYER = "model.layers.0.self_attn.q_proj"


class Planned:
    """The part of a resolved recipe that the check reads."""

    class model:  # noqa: N801
        uri, digest = "hf://a/b@c", DIGEST

    serving_plan = ServingPlan()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", rank=2)


def write_adapter(folder: Path, rank: int, width: int = 6) -> Path:
    folder.mkdir()
    name = f"base_model.model.{LAYER}.lora_"
    save_file(
        {f"{name}A.weight": torch.zeros(rank, width), f"{name}B.weight": torch.zeros(4, rank)}, folder / WEIGHTS_FILE
    )
    (folder / WEIGHTS_FILE).chmod(0o644)
    (folder / CONFIG_FILE).write_text(json.dumps({"peft_type": "LORA", "r": rank}))
    base = AdapterBase(uri="hf://a/b@c", digest=DIGEST, method="lora", quantised=[], packages={})
    (folder / BASE_FILE).write_text(base.model_dump_json())
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({f"{LAYER}.weight": torch.zeros(4, 6), "b": torch.zeros(4)}, folder / "model.safetensors")
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    return folder


def test_a_good_adapter_and_model_are_accepted(adapter: Path, model: Path) -> None:
    planned: Any = Planned()
    check_adapter(planned, adapter, model)
    assert check_model(model) == (model / "model.safetensors").stat().st_size


def test_an_adapter_of_another_base_is_refused(adapter: Path, model: Path) -> None:
    planned: Any = Planned()
    told = json.loads((adapter / BASE_FILE).read_text())
    (adapter / BASE_FILE).write_text(json.dumps(told | {"digest": "e" * 64}))
    with pytest.raises(RefusedError, match="trained on hf://a/b@c"):
        check_adapter(planned, adapter, model)


def test_an_adapter_that_does_not_fit_the_weights_is_refused(tmp_path: Path, model: Path) -> None:
    planned: Any = Planned()
    with pytest.raises(RefusedError, match=f"its {LAYER} does not fit the base's shape"):
        check_adapter(planned, write_adapter(tmp_path / "adapter", rank=2, width=8), model)


def test_a_rank_above_the_servers_maximum_is_refused_if_the_adapter_is_not_merged(tmp_path: Path, model: Path) -> None:
    planned: Any = Planned()
    adapter = write_adapter(tmp_path / "adapter", rank=5)
    check_adapter(planned, adapter, model)
    planned.serving_plan = ServingPlan(runtime="vllm", form="adapter", rank=4)
    with pytest.raises(RefusedError, match="its rank 5 exceeds the server's maximum of 4"):
        check_adapter(planned, adapter, model)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, CONFIG_FILE, BASE_FILE])
def test_an_incomplete_adapter_is_refused(adapter: Path, model: Path, name: str) -> None:
    planned: Any = Planned()
    (adapter / name).unlink()
    with pytest.raises(RefusedError, match=f"{name} does not exist"):
        check_adapter(planned, adapter, model)


def test_truncated_weights_are_refused(model: Path) -> None:
    whole = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(RefusedError, match="is not a complete safetensors file"):
        check_model(model)
    (model / "model.safetensors").write_bytes(b"<html>not found</html>" * 10)
    with pytest.raises(RefusedError, match="is not a complete safetensors file"):
        check_model(model)


def test_a_folder_without_weights_or_config_is_refused(model: Path) -> None:
    (model / "config.json").unlink()
    with pytest.raises(RefusedError, match=r"config\.json does not exist"):
        check_model(model)
    (model / "model.safetensors").unlink()
    with pytest.raises(RefusedError, match="has no weights"):
        check_model(model)
