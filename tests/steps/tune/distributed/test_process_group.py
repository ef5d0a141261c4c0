"""How the processes of a tuning select their GPU, and how one that fails ends the others."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from steps.common.handover.resolved import Hardware
from steps.common.model.packs import TokenRow
from steps.common.model.prepared_rows import TRAIN, VALIDATION, table_of, write_rows
from steps.common.runtime.errors import USER_ERROR
from steps.plan.step import PlanInput, resolve
from steps.tune.launch import OUTCOME_FILE
from steps.tune.train_process import TuningJob
from tests.support.commands import tiny_recipe


def job(tmp_path: Path, tiny_model: Path, chats: Path, kind: str) -> Path:
    resolved = resolve(PlanInput(recipe=tiny_recipe(tmp_path, tiny_model, chats)))
    rung = resolved.quote.first
    rung = rung.model_copy(update={"device": rung.device.model_copy(update={"kind": kind})})
    folder = tmp_path / "tuning"
    folder.mkdir()
    wanted = TuningJob(
        resolved=resolved,
        hardware=Hardware(rung=rung, node="here", since=time.time()),
        base_folder=str(tiny_model),
        rows_folder=str(tmp_path / "rows"),
        folder=str(folder),
    )
    file = tmp_path / "job.json"
    file.write_text(wanted.model_dump_json())
    return file


def test_a_process_selects_its_gpu_before_anything_queries_the_driver(
    tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    """The driver reads CUDA_VISIBLE_DEVICES only once; setting it later would have no effect."""
    script = f"""
        import os, sys
        import torch
        from steps.tune.train_process import TuningJob, run_train_process

        seen = []
        original = torch.cuda.is_available

        def is_available():
            seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
            return original()

        torch.cuda.is_available = is_available
        torch.distributed.init_process_group = lambda *_, **__: None
        try:
            run_train_process(TuningJob.model_validate_json(open({str(job(tmp_path, tiny_model, chats, "cuda"))!r}).read()))
        except Exception:
            pass
        print(*seen)
    """
    torchrun = {"TORCHELASTIC_RUN_ID": "1", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **torchrun, "CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(process.stdout.split()) == {"GPU-b"}


def test_a_rank_that_fails_alone_exits_with_an_error_so_that_torchrun_ends_the_others(
    tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    file = job(tmp_path, tiny_model, chats, "cpu")
    (tmp_path / "rows").mkdir()
    for side in (TRAIN, VALIDATION):
        write_rows(tmp_path / "rows" / side, [table_of([TokenRow([5, 6, 7], [5, 6, 7])])])
    wanted = TuningJob.model_validate_json(file.read_text())
    recipe = wanted.resolved.recipe
    recipe = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"targets": ["nowhere"]})})
    changed = wanted.model_copy(update={"resolved": wanted.resolved.model_copy(update={"recipe": recipe})})
    file.write_text(changed.model_dump_json())
    ended = subprocess.run([sys.executable, "-m", "steps.tune.worker", str(file)], capture_output=True, check=False)
    assert ended.returncode == USER_ERROR
    assert (Path(wanted.folder) / OUTCOME_FILE).read_text().startswith("user tune.targets: ")
