"""One weight that is not a number, wherever it is, is found before a base is trained on."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from steps.common.model.finite_weights import check_finite
from steps.common.runtime.errors import UserError

NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_not_finite_is_named(
    value: float, dtype: torch.dtype, tiny_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    tensors |= {"position_ids": torch.arange(4), "empty": torch.zeros(0), "large": torch.full((9,), 6e4, dtype=dtype)}
    save_file(tensors, folder / "model.safetensors")
    check_finite(folder)
    tensors[NAME][3, 5] = value
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        UserError, match=rf"model\.safetensors: its weight {NAME} contains NaN or infinite values"
    ) as told:
        check_finite(folder)
    assert "\n" not in str(told.value)


def test_a_weight_of_one_byte_is_looked_at_too(tmp_path: Path) -> None:
    weight = torch.ones(4, 4).to(torch.float8_e4m3fn)
    save_file({NAME: weight}, tmp_path / "model.safetensors")
    check_finite(tmp_path)
    weight[2, 1] = float("nan")
    save_file({NAME: weight}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=f"its weight {NAME} contains NaN"):
        check_finite(tmp_path)
