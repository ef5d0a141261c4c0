"""An interrupted training, one split into smaller passes and one on two ranks end in the same adapter. Two-layer model."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from steps.common.handover.resolved import Hardware
from steps.common.runtime.errors import InterruptedStepError, UserError
from steps.plan.step import PlanInput, resolve
from steps.prepare.step import PrepareInput, prepare
from steps.tune.loop import held_out
from steps.tune.objective import sft
from steps.tune.objective.objective import Pack
from steps.tune.step import TuneInput, tune
from tests.support.commands import tiny_recipe, wait_for

pytestmark = pytest.mark.usefixtures("in_fp32")
MICRO_BATCH = 96  # tokens; two rows


@pytest.fixture
def wanted(tmp_path: Path, tiny_model: Path, chats: Path) -> TuneInput:
    # With dropout, which makes the random state matter.
    resolved = resolve(PlanInput(recipe=tiny_recipe(tmp_path, tiny_model, chats, batch_tokens=288, dropout=0.1)))
    rows = prepare(PrepareInput(resolved=resolved, tokenizer_folder=str(tiny_model)))
    rung = resolved.quote.first.model_copy(update={"micro_batch_tokens": MICRO_BATCH})
    return TuneInput(
        resolved=resolved,
        base_folder=str(tiny_model),
        rows_folder=rows.folder,
        rows_digest=rows.digest,
        hardware=Hardware(rung=rung, node="here", since=time.time()),
    )


def without_dropout(wanted: TuneInput, **rung: Any) -> TuneInput:
    """Without dropout, whose random numbers change when passes are split or shared differently."""
    recipe = wanted.resolved.recipe
    recipe = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"dropout": 0.0})})
    hardware = wanted.hardware.model_copy(update={"rung": wanted.hardware.rung.model_copy(update=rung)})
    return wanted.model_copy(
        update={"resolved": wanted.resolved.model_copy(update={"recipe": recipe}), "hardware": hardware}
    )


def tuned(wanted: TuneInput, runs: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, torch.Tensor], Any]:
    """The adapter and the report of a tuning on a separate volume."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("FINELINE_RUNS", str(runs))
        folder = Path(tune(wanted).adapter_folder)
    return load_file(folder / "adapter_model.safetensors"), json.loads((folder.parent / "report.json").read_text())


def assert_same(one: tuple[dict[str, torch.Tensor], Any], other: tuple[dict[str, torch.Tensor], Any]) -> None:
    assert one[0].keys() == other[0].keys()
    # AdamW divides by the gradients' size, so it makes rounding errors of tiny ones as large as any: 2e-5 at this rate.
    assert all(torch.allclose(one[0][name], other[0][name], atol=1e-4) for name in one[0])
    assert [step for step, _ in one[1]["losses"]] == [step for step, _ in other[1]["losses"]]
    assert [loss for _, loss in one[1]["losses"]] == pytest.approx([loss for _, loss in other[1]["losses"]], abs=1e-3)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_base_with_one_weight_that_is_no_number_is_refused_by_name(
    method: str, wanted: TuneInput, tiny_model: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_model, tmp_path / "base"))
    weights = load_file(base / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    recipe = wanted.resolved.recipe
    recipe = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"method": method})})
    wanted = wanted.model_copy(
        update={"resolved": wanted.resolved.model_copy(update={"recipe": recipe}), "base_folder": str(base)}
    )
    with pytest.raises(UserError, match=r"its weight model\.layers\.1\.mlp\.up_proj\.weight contains NaN"):
        tune(wanted)


@pytest.mark.parametrize(
    ("from_pass", "line"),
    [
        (1, "the loss of the first step is nan, before anything is learned"),
        (8, "the training diverged: the loss of step 3 is nan; lower tune.learning_rate, which is 0.01"),
    ],
)
def test_a_training_that_diverges_ends_in_one_line_at_that_step(
    from_pass: int, line: str, wanted: TuneInput, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    passes = 0

    class Diverging(sft.SftObjective):
        def loss(self, model: torch.nn.Module, pack: Pack, device: torch.device) -> torch.Tensor:
            nonlocal passes
            passes += model.training
            return super().loss(model, pack, device) * (float("nan") if passes >= from_pass else 1.0)

    monkeypatch.setattr(sft, "SftObjective", Diverging)
    with pytest.raises(UserError) as told:
        tune(wanted)
    assert line in str(told.value)
    assert "loss 0.000" not in capsys.readouterr().err


def test_an_adapter_that_the_last_step_has_made_useless_is_not_kept(
    wanted: TuneInput, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steps.tune.loop.trainer import StepTrainer

    def ruined(self: Any, *_: Any, **__: Any) -> None:
        weight = next(weight for weight in self.model.parameters() if weight.requires_grad)
        with torch.no_grad():
            weight[0, 0] = float("inf")

    monkeypatch.setattr(StepTrainer, "evaluate_if_due", ruined)
    monkeypatch.setattr(StepTrainer, "_check_finite", lambda *_: None)
    with pytest.raises(
        UserError, match=r"the training diverged: after step \d+, .*lora_.* contains NaN or infinite values"
    ):
        tune(wanted)


def test_a_signal_abandons_the_current_step_and_the_training_resumes_exactly(
    wanted: TuneInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = 0

    class Interrupted(sft.SftObjective):
        def loss(self, model: torch.nn.Module, pack: Pack, device: torch.device) -> torch.Tensor:
            nonlocal passes
            passes += 1
            if passes == 8:  # the second of three in the third step
                os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(model, pack, device)

    with monkeypatch.context() as context:
        context.setattr(sft, "SftObjective", Interrupted)
        with pytest.raises(InterruptedStepError, match="stopped after step 2 of"):
            tuned(wanted, tmp_path / "interrupted", monkeypatch)
    assert passes == 8
    interrupted = tuned(wanted, tmp_path / "interrupted", monkeypatch)
    assert interrupted[1]["resumed_from"] == 2
    assert_same(interrupted, tuned(wanted, tmp_path / "at-one-go", monkeypatch))


class OutOfMemory(sft.SftObjective):
    """Requests a petabyte from torch's allocator when a pass has more than `most` tokens."""

    most = 60
    trains = True  # False: in evaluations instead of the training

    def loss(self, model: torch.nn.Module, pack: Pack, device: torch.device) -> torch.Tensor:
        if model.training is self.trains and sum(len(row.input_ids) for row in pack) > self.most:
            torch.empty(1 << 50, dtype=torch.uint8, device=device)
        return super().loss(model, pack, device)


def test_out_of_memory_halves_the_tokens_per_pass_and_the_steps_stay_the_same(
    wanted: TuneInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = without_dropout(wanted)
    with monkeypatch.context() as context:
        context.setattr(sft, "SftObjective", OutOfMemory)
        cut = tuned(wanted, tmp_path / "cut", monkeypatch)
    assert cut[1]["tokens_at_once"] < MICRO_BATCH == cut[1]["micro_batch_tokens"]
    assert cut[1]["out_of_memory"][0]["step"] == 1
    said = capsys.readouterr().err
    assert "out of memory with " in said
    assert re.search(r"predicted \d+\.\d GiB, \d+\.\d GiB in use", said)
    assert_same(cut, tuned(wanted, tmp_path / "whole", monkeypatch))


def test_out_of_memory_in_an_evaluation_halves_its_tokens_per_pass(
    wanted: TuneInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # With so few steps an evaluation would have one row; this lets it have all of them, which make a pack.
    monkeypatch.setattr("recipes.tuning.EVALUATION_SHARE", 10.0)
    whole = tuned(wanted, tmp_path / "whole", monkeypatch)
    monkeypatch.setattr(OutOfMemory, "trains", False)
    monkeypatch.setattr(sft, "SftObjective", OutOfMemory)
    cut = tuned(wanted, tmp_path / "cut", monkeypatch)
    assert f"out of memory with {MICRO_BATCH} held-out tokens in one pass" in capsys.readouterr().err
    assert_same(cut, whole)
    assert dict(cut[1]["held_out"]) == pytest.approx(dict(whole[1]["held_out"]), abs=1e-4)
    monkeypatch.setattr(OutOfMemory, "most", 0)
    with pytest.raises(UserError, match=r"out of memory with one held-out row of \d+ tokens; .*tune.evaluations=0"):
        tuned(wanted, tmp_path / "none", monkeypatch)


def with_tune(wanted: TuneInput, **changes: Any) -> TuneInput:
    recipe = wanted.resolved.recipe
    recipe = recipe.model_copy(update={"tune": recipe.tune.model_copy(update=changes)})
    return wanted.model_copy(update={"resolved": wanted.resolved.model_copy(update={"recipe": recipe})})


@pytest.mark.slow
def test_the_held_out_loss_is_a_curve_and_evaluating_it_changes_nothing(
    wanted: TuneInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = tuned(with_tune(wanted, evaluations=3), tmp_path / "measured", monkeypatch)
    steps = measured[1]["steps"]
    assert [step for step, _ in measured[1]["held_out"]] == [0, round(steps / 3), round(2 * steps / 3), steps]
    (_, before), *_, (_, after) = measured[1]["held_out"]
    assert after < before - 0.5
    unmeasured = tuned(with_tune(wanted, evaluations=0), tmp_path / "unmeasured", monkeypatch)
    assert unmeasured[1]["held_out"] == []
    assert_same(measured, unmeasured)
    both = tuned(
        without_dropout(with_tune(wanted, evaluations=3), processes=2, sharded=True), tmp_path / "two", monkeypatch
    )
    alone = tuned(without_dropout(with_tune(wanted, evaluations=3)), tmp_path / "alone", monkeypatch)
    assert [step for step, _ in both[1]["held_out"]] == [step for step, _ in alone[1]["held_out"]]
    losses = [[loss for _, loss in one[1]["held_out"]] for one in (both, alone)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_early_stopping_keeps_the_adapter_with_the_lowest_loss(
    wanted: TuneInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # In so many epochs it memorises the few rows.
    hasty = with_tune(wanted, evaluations=12, patience=2, learning_rate=0.02, epochs=8.0, checkpoint_every=1)
    adapter, report = tuned(hasty, tmp_path / "hasty", monkeypatch)
    losses = dict(report["held_out"][1:])
    lowest = min(losses, key=lambda step: losses[step])
    assert report["kept_step"] == lowest < report["steps"]
    assert [step for step in losses if step > lowest] == sorted(losses)[-2:]
    assert "early stopping: the held-out loss has not improved in 2 evaluations" in capsys.readouterr().err
    # Interrupted in an evaluation and resumed, it keeps the same adapter.
    passes = 0

    class Interrupted(held_out.HeldOutEvaluation):
        def evaluate(self, *given: Any) -> float:
            nonlocal passes
            passes += 1
            if passes == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().evaluate(*given)

    with monkeypatch.context() as context:
        context.setattr(held_out, "HeldOutEvaluation", Interrupted)
        with pytest.raises(InterruptedStepError):
            tuned(hasty, tmp_path / "interrupted", monkeypatch)
    again, resumed = tuned(hasty, tmp_path / "interrupted", monkeypatch)
    assert resumed["resumed_from"] > 0
    assert resumed["kept_step"] == lowest
    assert all(torch.allclose(again[name], adapter[name], atol=1e-5) for name in adapter)


def test_a_single_row_that_does_not_fit_in_memory_ends_the_step_with_one_line(
    wanted: TuneInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OutOfMemory, "most", 0)
    monkeypatch.setattr(sft, "SftObjective", OutOfMemory)
    with pytest.raises(UserError, match=r"out of memory with one row of \d+ tokens .*lower data.max_tokens") as told:
        tuned(wanted, tmp_path / "cut", monkeypatch)
    assert "\n" not in str(told.value)


@pytest.mark.slow
def test_two_ranks_train_the_same_adapter_as_one(
    wanted: TuneInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tuned(without_dropout(wanted), tmp_path / "alone", monkeypatch)
    shared = tuned(without_dropout(wanted, processes=2), tmp_path / "shared", monkeypatch)
    assert (alone[1]["processes"], shared[1]["processes"]) == (1, 2)
    assert_same(alone, shared)


@pytest.mark.slow
def test_a_ranks_error_is_the_steps_error(wanted: TuneInput) -> None:
    hardware = without_dropout(wanted, processes=2).hardware.model_copy(update={"until": time.time()})
    with pytest.raises(UserError, match=r"is reached after step 1 of \d+; a checkpoint is saved"):
        tune(without_dropout(wanted, processes=2).model_copy(update={"hardware": hardware}))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])  # two with a sharded base
def test_kills_and_signals_at_any_moment_end_in_the_same_adapter(
    wanted: TuneInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    recipe = wanted.resolved.recipe
    longer = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"epochs": 20.0, "dropout": 0.0})})
    wanted = without_dropout(wanted, processes=processes, sharded=processes > 1).model_copy(
        update={"resolved": wanted.resolved.model_copy(update={"recipe": longer})}
    )
    wanted = TuneInput.model_validate_json(wanted.model_dump_json())  # as the process parses it: 32 becomes 32.0
    inputs = tmp_path / "inputs.json"
    fields = wanted.model_dump(mode="json")
    inputs.write_text(
        json.dumps([{"name": n, "value": v if isinstance(v, str) else json.dumps(v)} for n, v in fields.items()])
    )
    settings = {**os.environ, "FINELINE_RUNS": str(tmp_path / "killed"), "hera__outputs_directory": str(tmp_path)}
    command = [sys.executable, "-m", "hera.workflows.runner", "-e", "steps.tune.step:tune", str(inputs)]
    moment = random.Random(processes)
    for number, how in enumerate([signal.SIGKILL, signal.SIGTERM] * (2 if processes == 1 else 1)):
        log = tmp_path / f"log-{number}"
        with log.open("w") as out:
            step = subprocess.Popen(command, env=settings, stdout=out, stderr=out)

        def begun(log: Path = log, step: subprocess.Popen[bytes] = step) -> bool:
            return "progress: " in log.read_text() or step.poll() is not None

        wait_for(begun)
        time.sleep(moment.uniform(0, 1.0))
        step.send_signal(how)
        assert step.wait(timeout=120) == (75 if how == signal.SIGTERM else -how), log.read_text()
    killed = tuned(wanted, tmp_path / "killed", monkeypatch)
    assert killed[1]["resumed_from"] > 0
    assert_same(killed, tuned(wanted, tmp_path / "at-one-go", monkeypatch))
