"""The folders of jobs: the folders of their runs, with a `job.json` beside `run.json`."""

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator

from filelock import FileLock

from api.jobs.job_record import JobRecord, run_of
from api.machine.stored_records import StoredRecords
from pipelines.machine.run_record import RUN, Run, load_run
from pipelines.shown.task_state import Phase
from steps.common.runtime.errors import INTERRUPTED
from steps.common.storage import volumes
from steps.common.storage.files import publish, write_text
from steps.common.storage.record import Record
from steps.common.storage.retention import is_locked

JOB, EXECUTIONS, OUTPUT = "job.json", "executions.json", "job.log"
LOCK = ".lock"  # of the run; the process that executes it holds it
# Messages of runs that are not being executed.
CANCELLED, PAUSED, QUEUED = "cancelled", "paused", "waits in the queue of 'fineline api'"
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
STAGING = ".creating"  # folder on the runs volume; among the runs, an unfinished folder would be listed

MOST_REMEMBERED = 10_000


class Executions(Record):
    """What the queue remembers about the executions of a job's run."""

    lost: int = 0  # in a row that ended without progress, and by no fault of the user
    reached: str = ""  # how far the last of these got
    not_before: float = 0.0  # Unix time at which the next may begin
    given_up: bool = False
    needs: str = ""  # folder of the training that it continues, for `fineline prune`
    closed: bool = False  # the records of a cancelled run: in MLflow, and what keeps its base model


_jobs = StoredRecords(JobRecord.read, MOST_REMEMBERED)
_runs = StoredRecords(Run.read, MOST_REMEMBERED)
_executions = StoredRecords(Executions.read, MOST_REMEMBERED)


class JobFolder:
    """The folder of a job's run."""

    def __init__(self, run: str) -> None:
        """Name the folder; it need not exist."""
        self.name = run
        self.path = volumes.run_folder(run)

    def job(self) -> JobRecord | None:
        """Return the job; None if there is none, or if its record cannot be read. It is shared, and must not be changed."""
        return _jobs.read(self.path / JOB)

    def run(self) -> Run | None:
        """Return the run's record; it is shared, and must not be changed."""
        return _runs.read(self.path / RUN)

    def records(self) -> tuple[JobRecord | None, Run | None, bool]:
        """Return the job, the run's record, and whether both stay so until the folder changes.

        They do not if the disk, or the process's limit on open files, prevented that they were read.
        """
        (job, job_stays), (run, run_stays) = _jobs.look(self.path / JOB), _runs.look(self.path / RUN)
        return job, run, job_stays and run_stays

    def executions(self) -> Executions:
        """Return what the queue remembers; it is shared, and must not be changed."""
        return _executions.read(self.path / EXECUTIONS) or Executions()

    def save_job(self, job: JobRecord) -> None:
        """Replace the job's record; the folder's lock must be held."""
        write_text(self.path / JOB, job.model_dump_json(indent=2) + "\n")

    def save_executions(self, executions: Executions) -> None:
        """Replace what the queue remembers; the folder's lock must be held."""
        write_text(self.path / EXECUTIONS, executions.model_dump_json(indent=2) + "\n")

    def lock(self) -> FileLock:
        """Return the lock for changes to the records of a job. It is held only for moments."""
        return FileLock(str(self.path / ".job.lock"))

    def has_ended(self, run: Run) -> bool:
        """Return whether a run is over: it has succeeded, or has failed and will not be tried again."""
        if run.phase is Phase.FAILED and run.exit_code == INTERRUPTED:
            return self.executions().given_up
        return run.phase in (Phase.SUCCEEDED, Phase.FAILED)

    def has_begun(self) -> bool:
        """Return whether any task of the run was ever started."""
        return (self.path / "tasks").is_dir()

    def is_executed(self) -> bool:
        """Return whether a process executes the run. To find out, its lock is held for a moment."""
        return is_locked(self.path / LOCK)

    def record_waiting(self, job: JobRecord) -> None:
        """Write what a run that is not being executed waits for into its record; the folder's lock must be held."""
        run = load_run(self.name)
        if run is None or run.phase is Phase.RUNNING or self.has_ended(run):
            return
        if job.wanted == "cancel":
            run.phase, run.exit_code, run.message, run.finished = Phase.FAILED, 1, CANCELLED, time.time()
        elif job.wanted == "pause":
            run.phase, run.exit_code, run.message = Phase.INTERRUPTED, INTERRUPTED, PAUSED
        else:
            run.phase, run.exit_code, run.message = Phase.PENDING, 0, QUEUED
        run.save()


def is_executing() -> bool:
    """Return whether a process executes the run of any job."""
    return any(
        (run := folder.run()) and run.phase is Phase.RUNNING and folder.is_executed() for folder, _ in job_folders()
    )


def folder_of(job_id: str) -> JobFolder | None:
    """Return the folder that the job with this id has if it exists; None if no job can have the id."""
    name = run_of(job_id)
    return JobFolder(name) if RUN_NAME.fullmatch(name) else None


def run_names() -> Iterator[tuple[str, int]]:
    """Yield the name of each run's folder, and when its entries last changed, in nanoseconds since 1970."""
    with contextlib.suppress(FileNotFoundError), os.scandir(volumes.runs() / "runs") as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                yield entry.name, entry.stat().st_mtime_ns


def job_folders() -> Iterator[tuple[JobFolder, JobRecord]]:
    """Yield the folders of all jobs, in no order."""
    for name, _ in run_names():
        folder = JobFolder(name)
        if job := folder.job():
            yield folder, job


def create_folder(job: JobRecord, run: Run, others: dict[str, str]) -> None:
    """Create a job's folder, completely or not at all.

    Args:
        job: the job.
        run: its run.
        others: content of other files, by name.

    Raises:
        FileExistsError: a run has this name.
    """
    final = volumes.run_folder(job.run)
    partial = volumes.runs() / STAGING / f"{job.run}-{uuid.uuid4().hex}"
    try:
        for name, text in {**others, RUN: run.model_dump_json(indent=2), JOB: job.model_dump_json(indent=2)}.items():
            write_text(partial / name, text + "\n")
        try:
            publish(partial, final)
        except OSError:
            if final.exists():
                raise FileExistsError(str(final)) from None
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
