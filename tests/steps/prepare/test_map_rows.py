"""Preparing rows in several processes ends soon, and in one line, when it is told to end or when one of them is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from steps.common.runtime.errors import INTERRUPTED, USER_ERROR
from steps.prepare import map_rows

# The process that labels the first record has done so at once and waits for more; the other one is slow.
SCRIPT = """
import os, sys, time
from pathlib import Path
from steps.common.rows.files.raw_record import RawRecord
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import Progress
from steps.common.storage.files import build_folder
from steps.prepare import map_rows
from steps.prepare.labelled_table import labelled_schema
from steps.prepare.raw_pieces import write_pieces

folder = Path(sys.argv[1])
map_rows.cores, map_rows.ROWS_A_PROCESS = lambda: 2, 2

class Labelling:
    def labelled(self, records):
        done = records.column("number")[0].as_py() == 0
        (folder / ("idle" if done else "busy")).write_text(str(os.getpid()))
        time.sleep(0 if done else 300)
        return labelled_schema().empty_table()

@step
def label():
    with build_folder(folder / "rows") as building:
        records = [(0, 0, RawRecord(line, b"{}")) for line in range(4)]
        list(map_rows.label_pieces(write_pieces(records, building), Labelling(), Progress(4, "rows")))

label()
"""


@pytest.mark.parametrize(
    ("rows", "size", "processes"),
    [(0, 0, 1), (999, 1 << 20, 1), (2500, 1 << 20, 2), (60, 100 << 20, 6), (2, 9 << 20, 2)],
)
def test_long_rows_are_worth_processes_too(
    monkeypatch: pytest.MonkeyPatch, rows: int, size: int, processes: int
) -> None:
    monkeypatch.setattr(map_rows, "cores", lambda: 6)
    assert map_rows.processes_for(rows, size) == processes


@pytest.mark.parametrize(
    ("target", "number", "code", "told"),
    [
        ("parent", signal.SIGTERM, INTERRUPTED, ""),
        (
            "busy",
            signal.SIGKILL,
            USER_ERROR,
            "data: a process that prepares the rows was killed, probably for lack of memory",
        ),
        # It holds a lock that the pool needs to end.
        (
            "idle",
            signal.SIGKILL,
            USER_ERROR,
            "data: a process that prepares the rows was killed, probably for lack of memory",
        ),
    ],
)
def test_a_signal_ends_all_processes(tmp_path: Path, target: str, number: int, code: int, told: str) -> None:
    settings = {**os.environ, "hera__outputs_directory": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], env=settings, stderr=subprocess.PIPE, text=True
    ) as run:
        begun = [tmp_path / "busy", tmp_path / "idle"]
        while run.poll() is None and not all(file.exists() and file.read_text() for file in begun):
            time.sleep(0.05)
        time.sleep(0.3)  # in which one process begins to wait
        started = psutil.Process(run.pid).children(recursive=True)
        os.kill(run.pid if target == "parent" else int((tmp_path / target).read_text()), number)
        try:
            _, printed = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == code, printed
    assert [line for line in printed.splitlines() if line.startswith("error: ")] == [
        line for line in printed.splitlines() if told and told in line
    ]
    assert told in printed
    assert "Traceback" not in printed
    assert not psutil.wait_procs(started, timeout=10)[1]
    assert not list(tmp_path.glob("rows*"))
