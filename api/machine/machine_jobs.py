"""The jobs of this machine: each is a run in a folder, which the queue executes."""

import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from api.jobs.job_place import JobState, Spent
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

MOST_PLANS = 64  # kept between the quote of a job and its creation


class MachineJobs:
    """A `JobPlace`: this machine."""

    refused_keys: Mapping[str, str] = {}

    def __init__(self, wake_queue: Callable[[], None] = lambda: None) -> None:
        """Create the place.

        Args:
            wake_queue: called when there is work for the queue, which otherwise finds it a moment later.
        """
        self._wake_queue = wake_queue
        self._plans: OrderedDict[str, tuple[Resolved, bool]] = OrderedDict()  # by recipe; whether a run took memory
        self._lock = threading.Lock()

    def quote(self, recipe: Recipe) -> Quote | None:
        """Check a recipe, and return its quote; None if the run that is being executed leaves too little memory to tell.

        Raises:
            UserError: a run of it would fail.
            UnreachableError: something that the check needs did not answer.
        """
        text, busy = _text(recipe), is_executing()
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
        """Create the folder of the job's run, completely or not at all; a job that exists stays as it is."""
        text = _text(recipe)
        with self._lock:
            plan, busy = self._plans.pop(text, (None, False))
        others = {QUOTE: plan.quote.model_dump_json()} if plan else {}
        if plan and not busy:  # a plan chooses its hardware by the memory that is free
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
        """Return the state of a job."""
        return job_state(JobFolder(job.run), job)

    def known_to_have_ended(self, job: JobRecord) -> bool:
        """Return False: its folder is read quickly, and a person may resume a run that has failed."""
        return False

    def spent(self, job: JobRecord) -> Spent:
        """Return 0: this machine buys nothing."""
        return Spent(0.0, final=True)

    def cancel(self, job: JobRecord) -> None:
        """Stop the job's run for good, if it has not ended."""
        self._want(job, "cancel")

    def pause(self, job: JobRecord) -> None:
        """Stop the job's run at a checkpoint; the job can be resumed."""
        self._want(job, "pause")

    def resume(self, job: JobRecord, budget: float | None = None) -> None:
        """Resume a paused job when its turn comes. Nothing is bought, whatever the budget."""
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
