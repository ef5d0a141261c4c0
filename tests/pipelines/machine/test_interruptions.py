"""A run that is killed or stopped, and then resumed with `--resume`. Two-layer model, real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from steps.common.storage import volumes
from steps.plan.model_files.weight_headers import FIRST_BYTES
from tests.support.commands import begin, fineline, kill_when, result, step_process, tiny_recipe, wait_for
from tests.support.hub import Hub
from tests.support.source import COMMIT


def newest_checkpoint() -> int:
    """The step of the newest checkpoint; 0 if there is none."""
    found = (volumes.runs() / "tunings").glob("*.partial/checkpoints/checkpoint-*/trainer_state.json")
    return max((int(file.parent.name.rpartition("-")[2]) for file in found), default=0)


def the_run() -> str:
    return next((volumes.runs() / "runs").iterdir()).name


def tune_log() -> str:
    return (volumes.run_folder(the_run()) / "tasks" / "tune" / "log.txt").read_text()


def nothing_counts_as_tuned() -> bool:
    return not list((volumes.runs() / "tunings").glob("*/adapter"))


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "adapter_model.safetensors"))


def tuned_at_one_go(elsewhere: Path) -> dict[str, torch.Tensor]:
    """The adapter that the run's tune step produces from the same inputs, on another volume, without an interruption."""
    inputs = volumes.run_folder(the_run()) / "tasks" / "tune" / "inputs.json"
    settings = {**os.environ, "FINELINE_RUNS": str(elsewhere), "hera__outputs_directory": str(elsewhere / "outputs")}
    command = [sys.executable, "-m", "hera.workflows.runner", "-e", "steps.tune.step:tune", str(inputs)]
    subprocess.run(command, env=settings, check=True, capture_output=True)
    return adapter(next(elsewhere.glob("tunings/*/adapter")))


@pytest.mark.slow
def test_a_run_stopped_and_killed_in_every_way_ends_at_the_same_adapter(
    tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    # Ctrl-C: the steps end by themselves, a checkpoint is saved, and the command to resume is printed.
    driver = begin("run", tiny_recipe(tmp_path, tiny_model, chats, epochs=40, checkpoint_every=5))
    wait_for(newest_checkpoint)
    children = psutil.Process(driver.pid).children(recursive=True)
    os.kill(driver.pid, signal.SIGINT)
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 130, err
    assert f"fineline run --resume {the_run()}" in out
    assert not [child for child in children if child.is_running()]
    assert "a checkpoint is saved" in tune_log()
    assert nothing_counts_as_tuned()

    # SIGKILL to the step: the run fails and reports it.
    reached = newest_checkpoint()
    driver = begin("run", "--resume", the_run(), "--json")
    kill_when(driver, "steps.tune.step:tune", lambda: newest_checkpoint() > reached)
    out, err = driver.communicate(timeout=120)
    assert driver.returncode == 1, err
    assert '"phase": "Failed"' in out
    assert "tune: was killed" in out
    assert nothing_counts_as_tuned()

    # SIGKILL to the command: its steps end too.
    reached = newest_checkpoint()
    driver = begin("run", "--resume", the_run())
    wait_for(lambda: newest_checkpoint() > reached)
    tune = step_process(driver, "steps.tune.step:tune")
    assert tune is not None
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    tune.wait(timeout=60)
    assert "Interrupted" in fineline("runs").stdout
    assert nothing_counts_as_tuned()

    resumed = fineline("run", "--resume", the_run(), "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert "prepare    succeeded: already done" in resumed.stderr
    assert "resuming from the checkpoint of step" in tune_log()
    assert result(resumed)["version"] == 1
    after, uninterrupted = adapter(Path(result(resumed)["adapter_folder"])), tuned_at_one_go(tmp_path / "elsewhere")
    assert after.keys() == uninterrupted.keys()
    assert all(torch.allclose(after[name], uninterrupted[name], atol=1e-5) for name in after)


def test_a_pull_that_is_killed_goes_on_at_the_byte(
    tmp_path: Path, tiny_model: Path, chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tiny_model)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    recipe = tiny_recipe(tmp_path, tiny_model, chats)
    Path(recipe).write_text(Path(recipe).read_text().replace(tiny_model.as_uri(), f"hf://org/tiny@{COMMIT}"))
    hub.bytes_a_second = 60_000
    driver = begin("run", recipe, "--json")
    kill_when(driver, "steps.pull.step:pull", lambda: hub.served.get("model.safetensors", 0) > FIRST_BYTES + 100_000)
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
