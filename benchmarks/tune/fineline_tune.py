"""The contender `fineline` of `compare.py`: the steps of a run up to the adapter."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from steps.common.handover.resolved import Hardware
from steps.common.storage import volumes
from steps.plan.step import PlanInput, resolve
from steps.prepare.step import PrepareInput, prepare
from steps.pull.step import PullInput, pull

# As in the workflow.
SETTINGS = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20)}
TUNE = [sys.executable, "-m", "hera.workflows.runner", "-e", "steps.tune.step:tune"]

folder, rows_a_step = Path(sys.argv[1]), int(sys.argv[2])


def planned(batch_tokens: int):  # noqa: ANN201
    """Return the resolved recipe."""
    recipe = {
        "name": "benchmark",
        "data": {"train": str(folder / "rows.jsonl"), "validation_share": 0.01},
        "tune": {"batch_tokens": batch_tokens},
        "serve": {"enabled": False},
    }
    return resolve(PlanInput(recipe=yaml.safe_dump(recipe)))


base = pull(PullInput(model=planned(8192).model)).folder
rows = prepare(PrepareInput(resolved=planned(8192), tokenizer_folder=base))
prepared = json.loads((Path(rows.folder) / "report.json").read_text())
resolved = planned(round(prepared["train_tokens"] / prepared["train_rows"] * rows_a_step))
inputs = {
    "resolved": resolved.model_dump_json(),
    "base_folder": base,
    "rows_folder": rows.folder,
    "rows_digest": rows.digest,
    "hardware": Hardware(rung=resolved.quote.first, node="here", since=time.time()).model_dump_json(),
    "placement": "{}",
}
shutil.rmtree(volumes.runs() / "tunings", ignore_errors=True)
file = folder / "inputs.json"
file.write_text(json.dumps([{"name": name, "value": value} for name, value in inputs.items()]))
outputs = {"hera__outputs_directory": str(folder / "outputs")}
subprocess.run([*TUNE, str(file)], env={**os.environ, **SETTINGS, **outputs}, check=True)
report = json.loads(next(volumes.runs().glob("tunings/*/report.json")).read_text())
figures = ("seconds", "peak_bytes", "first_loss", "last_loss")
answer = {"tokens": prepared["train_tokens"], **{name: report[name] for name in figures}}
(folder / "answer.json").write_text(json.dumps(answer))
