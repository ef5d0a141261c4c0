"""The jobs of this machine: each the run of a folder, which the queue executes."""

import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from api.jobs.job_place import JobState
from api.jobs.job_record import JobRecord, Wanted
from api.machine.job_folders import QUEUED, JobFolder, create_folder, folder_of, is_executing, job_folders
from api.machine.job_progress import QUOTE, job_state
from api.machine.plan_process import planned
from pipelines.machine.run_record import Run
from pipelines.shown.task_state import Phase
from recipes.recipe import Recipe
from steps.common.handover.resolved import Quote, Resolved
from steps.plan.addresses import kept
from steps.plan.step import RESOLVED_FILE

if TYPE_CHECKING:
    from pipelines.machine.local_workflow import LocalWorkflow

MOST_PLANS = 64  # that are remembered between the quote of a job and its creation
PLANS_AT_ONCE = 2  # each is a process that reads rows


class MachineJobs:
    """A `JobPlace`: this machine."""

    def __init__(self, wake_queue: Callable[[], None] = lambda: None) -> None:
        """Create the place.

        Args:
            wake_queue: called when there is something for the queue to do; it finds that by itself too, a moment later.
        """
        self._wake_queue = wake_queue
        self._plans: OrderedDict[str, tuple[Resolved, bool]] = OrderedDict()  # by recipe; whether a run took memory
        self._lock = threading.Lock()
        self._planning = threading.Semaphore(PLANS_AT_ONCE)

    def quote(self, recipe: Recipe) -> Quote | None:
        """Check a recipe, and return what a run of it would take; None if the run that is executed leaves too little memory.

        Raises:
            UserError: a run of it would fail.
            UnreachableError: something that the check needs did not answer.
        """
        text, busy = _text(recipe), is_executing()
        with self._planning:
            plan = planned(text, busy=busy)
        if plan is None:
            return None
        with self._lock:
            self._plans[text] = (plan, busy)
            self._plans.move_to_end(text)
            while len(self._plans) > MOST_PLANS:
                self._plans.popitem(last=False)
        return plan.quote

    def create(self, job: JobRecord, recipe: Recipe) -> None:
        """Create the folder of the job's run, whole or not at all; a job that is there already stays as it is."""
        text = _text(recipe)
        with self._lock:
            plan, busy = self._plans.pop(text, (None, False))
        others = {QUOTE: plan.quote.model_dump_json()} if plan else {}
        if plan and not busy:  # the hardware of a plan is chosen by the memory that was free
            others[RESOLVED_FILE] = plan.model_dump_json()
        workflow = _workflow()
        run = Run(
            name=job.run,
            workflow=workflow.name,
            parameters={**workflow.parameters, "recipe": text},
            started=time.time(),
            phase=Phase.PENDING,
            message=QUEUED,
        )
        try:
            create_folder(job, run, others)
        except FileExistsError:
            found = JobFolder(job.run).job()
            if found is None or found.team != job.team:
                raise
        self._wake_queue()

    def jobs(self, team: str) -> list[JobRecord]:
        """Return a team's jobs, the newest first."""
        found = [job for _, job in job_folders() if job.team == team]
        return sorted(found, key=lambda job: (job.created_at, job.id), reverse=True)

    def job(self, team: str, job_id: str) -> JobRecord | None:
        """Return a job of a team, or None."""
        folder = folder_of(job_id)
        job = folder.job() if folder else None
        return job if job and job.team == team and job.id == job_id else None

    def state(self, job: JobRecord) -> JobState:
        """Return how far a job has come."""
        return job_state(JobFolder(job.run), job)

    def cancel(self, job: JobRecord) -> None:
        """Stop the job's run for good, if it has not ended."""
        self._want(job, "cancel")

    def pause(self, job: JobRecord) -> None:
        """Stop the job's run at a checkpoint; it stays to be resumed."""
        self._want(job, "pause")

    def resume(self, job: JobRecord) -> None:
        """Go on with a paused job, once it is its turn."""
        self._want(job, "run")

    def _want(self, job: JobRecord, wanted: Wanted) -> None:
        folder = JobFolder(job.run)
        if not folder.job():
            return
        with folder.lock():
            now, run = folder.job(), folder.run()
            if now is None or run is None or now.wanted == "cancel" or folder.has_ended(run):
                return
            wanting = now.wanting(wanted, time.time())
            folder.save_job(wanting)
            folder.record_waiting(wanting)
        self._wake_queue()


def _text(recipe: Recipe) -> str:
    from pipelines.workflows.parameters import as_text

    return as_text(kept(recipe))


@functools.cache
def _workflow() -> "LocalWorkflow":
    from pipelines.machine.local_workflow import read
    from pipelines.workflows.finetune import build

    return read(build().to_dict())
