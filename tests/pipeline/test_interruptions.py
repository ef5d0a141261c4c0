"""A run that is killed, stopped or refused, and what `--resume` makes of it. Two-layer model, real processes."""

import os
import signal
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from steps.common import volumes
from tests.hub import COMMIT, Hub
from tests.pipeline.commands import begin, fineline, kill_when, result, step_process, tiny_recipe, wait_for

LONG = {"epochs": 12}


def checkpoints() -> list[Path]:
    return list((volumes.runs() / "tunings").glob("*.partial/checkpoints/checkpoint-*/trainer_state.json"))


def the_run() -> str:
    return next((volumes.runs() / "runs").iterdir()).name


def adapter(folder: str) -> dict[str, torch.Tensor]:
    return dict(load_file(Path(folder) / "adapter_model.safetensors"))


@pytest.fixture
def uninterrupted(tmp_path: Path, tiny_model: Path, chats: Path) -> dict[str, torch.Tensor]:
    """The adapter of the same tuning without a kill, on volumes of its own."""
    recipe = tiny_recipe(tmp_path, tiny_model, chats, **LONG)
    elsewhere = {"FINELINE_WEIGHTS": str(tmp_path / "other-weights"), "FINELINE_RUNS": str(tmp_path / "other-runs")}
    done = fineline("run", recipe, "--json", environment=elsewhere)
    assert done.returncode == 0, done.stderr
    return adapter(result(done)["adapter_folder"])


def test_a_tuning_that_is_killed_goes_on_from_its_checkpoint_to_the_same_adapter(
    tmp_path: Path, tiny_model: Path, chats: Path, uninterrupted: dict[str, torch.Tensor]
) -> None:
    recipe = tiny_recipe(tmp_path, tiny_model, chats, **LONG)
    driver = begin("run", recipe, "--json")
    kill_when(driver, "steps.tune.step:tune", checkpoints)
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 1, err
    assert '"phase": "Failed"' in out
    assert "tune: was killed" in out
    assert not list((volumes.runs() / "tunings").glob("*/adapter")), "an interrupted training counts as finished"

    resumed = fineline("run", "--resume", the_run(), "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert "prepare    succeeded: done before" in resumed.stderr
    log = (volumes.run_folder(the_run()) / "tasks" / "tune" / "log.txt").read_text()
    assert "going on from the checkpoint of step" in log
    after = adapter(result(resumed)["adapter_folder"])
    assert after.keys() == uninterrupted.keys()
    assert all(torch.allclose(after[name], uninterrupted[name], atol=1e-5) for name in after)


def test_killing_the_command_itself_stops_its_steps_and_the_run_can_be_resumed(
    tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    driver = begin("run", tiny_recipe(tmp_path, tiny_model, chats, **LONG))
    wait_for(checkpoints)
    tune = step_process(driver, "steps.tune.step:tune")
    assert tune is not None
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    tune.wait(timeout=60)
    assert "Interrupted" in fineline("runs").stdout
    resumed = fineline("run", "--resume", the_run(), "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert result(resumed)["version"] == 1


def test_ctrl_c_stops_the_children_keeps_a_checkpoint_and_says_how_to_go_on(
    tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    driver = begin("run", tiny_recipe(tmp_path, tiny_model, chats, epochs=100))
    wait_for(checkpoints)
    children = psutil.Process(driver.pid).children(recursive=True)
    os.kill(driver.pid, signal.SIGINT)
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 130, err
    assert f"fineline run --resume {the_run()}" in out
    assert not [child for child in children if child.is_running()]
    assert "its checkpoint is kept" in (volumes.run_folder(the_run()) / "tasks" / "tune" / "log.txt").read_text()


def test_a_pull_that_is_killed_goes_on_at_the_byte(
    tmp_path: Path, tiny_model: Path, chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tiny_model)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    recipe = tiny_recipe(tmp_path, tiny_model, chats)
    Path(recipe).write_text(Path(recipe).read_text().replace(tiny_model.as_uri(), f"hf://org/tiny@{COMMIT}"))
    hub.bytes_a_second = 60_000
    driver = begin("run", recipe, "--json")
    kill_when(driver, "steps.pull.step:pull", lambda: hub.served.get("model.safetensors", 0) > 100_000)
    driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert not list((volumes.weights() / "models").glob("*/manifest.json")), "a part of a model is published"
    hub.bytes_a_second = 0
    before = hub.served["model.safetensors"]
    resumed = fineline("run", "--resume", the_run(), "--json")
    hub.close()
    assert resumed.returncode == 0, resumed.stderr
    size = (tiny_model / "model.safetensors").stat().st_size
    assert hub.served["model.safetensors"] - before < size, "it began from the start"


def test_a_refused_candidate_is_not_registered_and_the_command_ends_with_3(
    tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    recipe = tiny_recipe(tmp_path, tiny_model, chats)
    done = fineline("run", recipe, "-o", "gate.better_than_base=0.99")
    assert done.returncode == 3, done.stderr
    assert "refused: evaluate: refused: held-out loss" in done.stdout
    assert "the gate asks 99.0%" in done.stdout
    assert "register   omitted" in done.stderr
    assert "release    succeeded" in done.stderr


def test_the_same_recipe_again_registers_nothing_and_a_change_registers_a_second_version(
    tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    recipe = tiny_recipe(tmp_path, tiny_model, chats)
    first = result(fineline("run", recipe, "--json"))
    assert (first["version"], first["new_version"]) == (1, True)
    again = result(fineline("run", recipe, "--json"))
    assert (again["version"], again["new_version"]) == (1, False)
    changed = result(fineline("run", recipe, "-o", "tune.epochs=2", "--json"))
    assert (changed["version"], changed["new_version"]) == (2, True)
    assert changed["evaluation"]["champion_version"] == 1
    assert "champion" in changed["evaluation"]["scores"]
