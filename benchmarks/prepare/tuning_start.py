"""The contender `start` of `compare.py`: what a tuning does with the rows before it trains, and the reading of its steps."""

import json
import sys
import time
from pathlib import Path

import psutil

from steps.common.model.packs import RowPacks, packed_numbers
from steps.common.model.prepared_rows import TRAIN, PreparedTexts
from steps.tune.loop.step_schedule import ScheduledSteps, schedule_steps

PACK_TOKENS, PACKS_A_STEP, STEPS_READ = 8192, 4, 300


def pss() -> int:
    """Return this process's proportional set size in bytes."""
    return int(psutil.Process().memory_full_info().pss)


folder = Path(sys.argv[1])
before = pss()
began = time.monotonic()
rows = PreparedTexts.open(Path((folder / "rows_folder.txt").read_text()) / TRAIN)
packs = packed_numbers(rows, PACK_TOKENS)
steps = ScheduledSteps(RowPacks(rows, packs), schedule_steps(len(packs), PACKS_A_STEP, 1.0, 0))
seconds = time.monotonic() - began
started = pss()
trained = 0
most = started
for step in range(min(STEPS_READ, len(steps))):
    trained += sum(len(row.input_ids) for pack in steps[step] for row in pack)
    most = max(most, pss())
answer = {
    "rows": len(rows),
    "packs": len(packs),
    "seconds": seconds,
    "rows_bytes": started - before,
    "trained_tokens": trained,
    "trained_bytes": most - before,
}
(folder / "answer.json").write_text(json.dumps(answer))
