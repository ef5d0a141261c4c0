"""A training that reaches a limit on cost or time stops and can be resumed; one that computes nothing is ended."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steps.common.handover.resolved import Hardware
from steps.common.runtime.errors import UserError
from steps.plan.step import PlanInput, resolve
from steps.prepare.step import PrepareInput, prepare
from steps.tune.step import TuneInput, tune
from tests.support.commands import fineline, tiny_recipe


@pytest.fixture
def wanted(tmp_path: Path, tiny_model: Path, chats: Path) -> TuneInput:
    resolved = resolve(PlanInput(recipe=tiny_recipe(tmp_path, tiny_model, chats)))
    rows = prepare(PrepareInput(resolved=resolved, tokenizer_folder=str(tiny_model)))
    return TuneInput(
        resolved=resolved,
        base_folder=str(tiny_model),
        rows_folder=rows.folder,
        rows_digest=rows.digest,
        hardware=Hardware(rung=resolved.quote.first, node="here", since=time.time()),
    )


def with_limit(wanted: TuneInput, until: float) -> TuneInput:
    return wanted.model_copy(update={"hardware": wanted.hardware.model_copy(update={"until": until})})


def test_at_its_limit_a_training_stops_with_a_checkpoint_and_can_be_resumed(wanted: TuneInput) -> None:
    with pytest.raises(UserError, match=r"is reached after step 1 of \d+; a checkpoint is saved") as told:
        tune(with_limit(wanted, time.time()))
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="is reached after step 2 of"):
        tune(with_limit(wanted, time.time()))
    done = tune(wanted)
    report = json.loads((Path(done.adapter_folder).parent / "report.json").read_text())
    assert report["resumed_from"] == 2


@pytest.mark.parametrize("times", [2, 0.5])
def test_a_resumed_training_keeps_its_micro_batches_whatever_the_new_gpu_holds(
    wanted: TuneInput, times: float, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="is reached after step 1 of"):
        tune(with_limit(wanted, time.time()))
    rung = wanted.hardware.rung
    other = rung.model_copy(update={"micro_batch_tokens": round(rung.micro_batch_tokens * times)})
    done = tune(wanted.model_copy(update={"hardware": wanted.hardware.model_copy(update={"rung": other})}))
    report = json.loads((Path(done.adapter_folder).parent / "report.json").read_text())
    assert report["resumed_from"] == 1
    assert report["micro_batch_tokens"] == rung.micro_batch_tokens
    assert report["tokens_at_once"] == round(rung.micro_batch_tokens * min(times, 1))
    assert f"micro-batches of at most {rung.micro_batch_tokens} tokens, " in capsys.readouterr().err


def test_a_limit_that_is_not_reached_has_no_effect(wanted: TuneInput) -> None:
    assert Path(tune(with_limit(wanted, time.time() + 3600)).adapter_folder).is_dir()


def test_a_process_that_computes_nothing_is_ended_with_one_line() -> None:
    """The main thread hangs, and only the watchdog runs."""
    hangs = "import time\nfrom steps.tune.loop.watchdog import Watchdog\nwith Watchdog(0.4) as dog:\n    {}\n"
    beaten = hangs.format("[(time.sleep(0.1), dog.beat()) for _ in range(12)]")
    assert subprocess.run([sys.executable, "-c", beaten], check=False).returncode == 0
    ended = subprocess.run(
        [sys.executable, "-c", hangs.format("time.sleep(60)")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: tune: nothing was computed for 0 min (compute.idle_minutes)")
    assert len(ended.stderr.splitlines()) == 1


def test_a_run_that_would_exceed_its_time_limit_is_refused_beforehand(
    tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    done = fineline("run", tiny_recipe(tmp_path, tiny_model, chats), "-o", "compute.max_hours=0.001")
    assert done.returncode == 2
    assert done.stderr.startswith("fineline: compute.max_hours: the limit is 0.001 h, and ")
    assert not list((tmp_path / "runs").glob("runs/*"))
