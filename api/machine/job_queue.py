"""The queue of this machine's jobs: one at a time, the oldest first, each executed by its own process.

The queue has no memory: the folders of the runs show what is to be done. One process at a time works on the queue and holds its
lock. When that process dies, its run stops at a checkpoint, and the next process takes over.
"""

import contextlib
import logging
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from types import TracebackType

from filelock import FileLock, Timeout

from api.jobs.job_record import JobRecord
from api.machine.job_folders import (
    CANCELLED,
    OUTPUT,
    STAGING,
    JobFolder,
    run_names,
)
from api.machine.job_process import CLOSE, EXECUTE, begin
from api.machine.job_progress import reached, tuning_folder
from pipelines.machine.run_record import Run, load_run
from pipelines.shown.task_state import Phase
from steps.common.runtime.errors import INTERRUPTED
from steps.common.storage import volumes

POLL_SECONDS, LOOK_SECONDS = 1.0, 0.2  # between checks of the queue, and of the job that is being executed
CLOSE_SECONDS = 120.0  # limit for a registry that does not answer
FAULT_SECONDS = 10.0  # pause after an error in the queue itself, such as a full disk
STAGED_SECONDS = 3600.0  # limit for the creation of a folder
# As in a cluster: how often in a row a run may be lost, and how long it waits after that.
MOST_LOST, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 10, 10.0, 300.0

LOG = logging.getLogger("fineline.api")


@dataclass(frozen=True)
class QueuedJob:
    """A job that has not ended."""

    folder: JobFolder
    job: JobRecord
    run: Run


class JobQueue:
    """Works on the queue in its own thread, as long as no other process does.

    When the block ends, the run that is being executed stops at a checkpoint, and the next process continues it.
    """

    def __init__(self) -> None:
        """Prepare the queue; nothing starts yet."""
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job-queue", daemon=True)
        self._ended: dict[
            str, int
        ] = {}  # names of the runs that have ended, with the time of their folder's last change

    def __enter__(self) -> "JobQueue":
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """Check the queue at once."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                volumes.runs().mkdir(parents=True, exist_ok=True)
                with FileLock(str(volumes.runs() / "job-queue.lock"), timeout=0):
                    _clean_up()
                    while not self._stopping.is_set():
                        self._step()
            except Timeout:
                self._stopping.wait(POLL_SECONDS)
            except Exception:
                LOG.exception("the job queue failed; it continues in %.0f s", FAULT_SECONDS)
                self._stopping.wait(FAULT_SECONDS)

    def _step(self) -> None:
        """Execute the next job, or wait for one."""
        self._wake.clear()
        if found := self._next():
            self._execute(found.folder)
        else:
            self._wake.wait(POLL_SECONDS)

    def _next(self) -> QueuedJob | None:
        """Return the next job; None if there is none, or if the run of a job is being executed."""
        ready: list[QueuedJob] = []
        settled = False
        for one in self._open_jobs():
            if one.run.phase is Phase.RUNNING and one.folder.is_executed():
                return None  # by the process of a queue that has died, which is stopping, or by a person
            if one.run.phase is Phase.RUNNING or (one.run.phase is Phase.FAILED and one.job.wanted == "run"):
                _settle(one.folder, asked=False)
                settled = True
            elif one.job.wanted == "cancel":
                _close(one.folder)
            elif one.job.wanted == "run" and one.folder.executions().not_before <= time.time():
                ready.append(one)
        if settled:
            self._wake.set()  # check again at once: what was lost may be next
            return None
        return min(ready, key=lambda one: (one.job.created_at, one.run.started), default=None)

    def _open_jobs(self) -> list[QueuedJob]:
        found = []
        for name, changed in run_names():
            if self._ended.get(name) == changed:
                continue
            folder = JobFolder(name)
            job, run, stays = folder.records()
            if job is None or run is None:
                if stays:
                    self._ended[name] = changed
            elif folder.has_ended(run) and not _is_to_close(folder, run):
                self._ended[name] = changed
            else:
                found.append(QueuedJob(folder, job, run))
        return found

    def _execute(self, folder: JobFolder) -> None:
        """Execute a job's run until it ends or is to stop."""
        with folder.lock():
            job, run = folder.job(), load_run(folder.name)
            if job is None or run is None or job.wanted != "run" or folder.has_ended(run):
                return
            if not folder.has_begun():
                run.started = time.time()
            run.phase, run.exit_code, run.message, run.finished = Phase.RUNNING, 0, "", 0.0
            run.save()
            process = begin(EXECUTE, folder.name, folder.path / OUTPUT)
        LOG.info("job %s: its run starts", job.id)
        asked = False
        while process.poll() is None:
            if not asked and (self._stopping.is_set() or not _is_to_run(folder)):
                asked = True
                process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_SECONDS)
        LOG.info("job %s: the process of its run ended with exit code %s", job.id, process.returncode)
        _settle(folder, asked=asked)


def _is_to_run(folder: JobFolder) -> bool:
    job = folder.job()
    return job is not None and job.wanted == "run"


def _settle(folder: JobFolder, *, asked: bool) -> None:
    """Record what happens next to a run whose process has ended but that is not over.

    Args:
        folder: of the run.
        asked: the queue has stopped it; otherwise it may have been lost, or something outside did not answer.
    """
    with folder.lock():
        job, run = folder.job(), load_run(folder.name)
        if job is None or run is None or folder.has_ended(run) or folder.is_executed():
            return
        # The queue or a person has stopped an interrupted run in an orderly way.
        lost = not asked and run.phase is not Phase.INTERRUPTED
        if lost and job.wanted == "run" and not _count_loss(folder, run):
            return
        if tuning := tuning_folder(run):
            folder.save_executions(folder.executions().model_copy(update={"needs": str(tuning)}))
        run.phase = Phase.INTERRUPTED
        run.save()
        folder.record_waiting(job)


def _count_loss(folder: JobFolder, run: Run) -> bool:
    """Count a lost execution, and return whether there may be another."""
    before, now = folder.executions(), reached(run)
    lost = before.lost + 1 if before.reached == now else 1
    outside = run.phase is Phase.FAILED  # something did not answer, and gets time
    wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (lost - 1)) if outside or lost > 1 else 0.0
    given_up = lost > MOST_LOST
    changed = {"lost": lost, "reached": now, "not_before": time.time() + wait, "given_up": given_up}
    folder.save_executions(before.model_copy(update=changed))
    if not given_up:
        return True
    why = run.message or "its process died"
    run.phase, run.exit_code, run.finished = Phase.FAILED, INTERRUPTED, time.time()
    run.message = f"{why}; given up after {lost} attempts in a row without progress"
    run.save()
    return False


def _is_to_close(folder: JobFolder, run: Run) -> bool:
    return run.message == CANCELLED and folder.has_begun() and not folder.executions().closed


def _close(folder: JobFolder) -> None:
    """End a cancelled run, and close its records. That is tried only once, since they only inform."""
    with folder.lock():
        if job := folder.job():
            folder.record_waiting(job)
        run = load_run(folder.name)
    if run is None or not _is_to_close(folder, run):
        return
    process = begin(CLOSE, folder.name, folder.path / OUTPUT)
    try:
        process.wait(CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with folder.lock():
        folder.save_executions(folder.executions().model_copy(update={"closed": True}))


def _clean_up() -> None:
    """Delete the folders that a process was creating when it was killed."""
    with contextlib.suppress(FileNotFoundError):
        for folder in (volumes.runs() / STAGING).iterdir():
            if folder.stat().st_mtime < time.time() - STAGED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
