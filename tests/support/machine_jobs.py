"""Jobs of this machine as `api` stores them, and processes that work on their queue."""

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from api.jobs.job_place import JobState
from api.jobs.job_record import JobRecord
from api.machine.machine_jobs import MachineJobs
from recipes.reader import load
from recipes.recipe import Recipe
from steps.common.storage import volumes
from tests.support.commands import tiny_recipe, wait_for

PATIENCE = 1200  # seconds that a busy machine may take for a part of a run; what hangs fails all the same
QUEUE = "import sys; from api.machine.job_queue import JobQueue\nwith JobQueue(): print('works', flush=True); sys.stdin.read()"


def job_record(run: str = "", team: str = "cats", **others: Any) -> JobRecord:
    """The record of a job with a new name."""
    name = run or f"cats-tiny-{uuid.uuid4().hex[:12]}"
    given = {
        "model": "tiny",
        "name": "cats-tiny",
        "training_file": "file-1",
        "method": {"type": "supervised"},
        "seed": 0,
        "created_at": int(time.time()),
    }
    return JobRecord(id=f"ftjob-{name}", run=name, team=team, **{**given, **others})


def tiny_job(folder: Path, model: Path, chats: Path, **tune: Any) -> Recipe:
    """The recipe of a job that tunes the tiny model and registers a version."""
    return load(tiny_recipe(folder, model, chats, **tune), {})


def created(jobs: MachineJobs, recipe: Recipe, **others: Any) -> JobRecord:
    """Create a job as a request does."""
    job = job_record(**others)
    jobs.quote(recipe)
    jobs.create(job, recipe)
    return job


def wait_until(jobs: MachineJobs, job: JobRecord, is_so: Callable[[JobState], bool]) -> JobState:
    """Wait for a job's state, and return it."""

    def found() -> JobState | None:
        state = jobs.state(job)
        return state if is_so(state) else None

    state: JobState = wait_for(found, PATIENCE)
    return state


def queue_process() -> subprocess.Popen[str]:
    """Start a process that works on the queue until its standard input ends, or it is killed."""
    process = subprocess.Popen([sys.executable, "-c", QUEUE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "works\n"
    return process


def executing() -> list[psutil.Process]:
    """The processes that execute the runs of this test's jobs."""
    found = []
    for process in psutil.process_iter():
        try:
            line, runs = process.cmdline(), process.environ().get(volumes.RUNS_SETTING)
        except psutil.Error:
            continue
        if "api.machine.job_process" in line and "execute" in line and runs == os.environ[volumes.RUNS_SETTING]:
            found.append(process)
    return found


def with_steps(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have a step running. One that has ended its execution, and prints the result, has none."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.children():
                found.append(process)
    return found
