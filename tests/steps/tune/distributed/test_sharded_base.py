"""A base model sharded across two ranks: what each holds, and that training matches a replicated base."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from steps.common.handover.resolved import Hardware
from steps.plan.step import PlanInput, resolve
from steps.prepare.step import PrepareInput, prepare
from steps.tune.train_process import TuningJob, run_train_process
from tests.support.commands import tiny_recipe

pytestmark = pytest.mark.usefixtures("in_fp32")
LAYERS = 7
WORKER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tests.support.sharded_worker"]


def job(
    tmp_path: Path, model: Path, chats: Path, name: str, *, method: str, activations: str, **rung: Any
) -> TuningJob:
    recipe = tiny_recipe(tmp_path, model, chats, batch_tokens=288, method=method, epochs=0.5)
    resolved = resolve(PlanInput(recipe=recipe))
    rows = prepare(PrepareInput(resolved=resolved, tokenizer_folder=str(model)))
    chosen = resolved.quote.first.model_copy(update={"micro_batch_tokens": 144, "activations": activations, **rung})
    folder = tmp_path / name
    folder.mkdir()
    return TuningJob(
        resolved=resolved,
        hardware=Hardware(rung=chosen, node="here", since=time.time()),
        base_folder=str(model),
        rows_folder=rows.folder,
        folder=str(folder),
    )


@pytest.fixture(scope="module")
def deep_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with more layers."""
    folder = tmp_path_factory.mktemp("deep-model")
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    config = LlamaConfig.from_pretrained(tiny_model)
    config.num_hidden_layers = LAYERS
    torch.manual_seed(2)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("method", "activations"), [pytest.param("qlora", "offloaded", marks=pytest.mark.slow), ("lora", "kept")]
)
def test_two_ranks_train_the_same_adapter_as_one_though_one_runs_out_of_memory(
    tmp_path: Path, deep_model: Path, chats: Path, method: str, activations: str
) -> None:
    whole = job(tmp_path, deep_model, chats, "whole", method=method, activations=activations)
    run_train_process(whole)
    shared = job(
        tmp_path, deep_model, chats, "shared", method=method, activations=activations, processes=2, sharded=True
    )
    file = tmp_path / "job.json"
    file.write_text(shared.model_dump_json())
    ended = subprocess.run([sys.executable, *WORKER, str(file)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert "across 2 processes that share the base model's layers" in ended.stderr
    ours, theirs = (load_file(Path(one.folder) / "adapter" / "adapter_model.safetensors") for one in (shared, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=5e-5) for name in ours)
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert second["shortages"] == 2
    assert first["shortages"] == 0
    # Of seven layers rank 0 owns four and rank 1 three; at most two more are unsharded at a time.
    assert first["held"] <= first["all"] * 6 / LAYERS
    assert second["held"] <= second["all"] * 5 / LAYERS
