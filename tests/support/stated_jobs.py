"""Jobs whose runs are what a test says: quotes with prices, and states that take a cloud or hours to come about."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from api.jobs.job_place import ENDED, JobState, Spent, Status
from api.jobs.job_record import JobRecord, Wanted
from recipes.recipe import Recipe
from steps.common.handover.report import EvaluationReport, read_report
from steps.common.handover.resolved import Quote, Resolved, Rung
from steps.common.runtime.errors import UserError
from tests.support.evaluation_reports import EARLIER
from tests.support.golden import golden

NOW = 1_790_000_000


def a_quote(cost: float | None = None, **changes: Any) -> Quote:
    """Return the quote of a real plan; with a cost, that of a bought instance."""
    file = golden("version/resolved.json")
    quote = Resolved.read(file.read_text(), file).quote
    bought = {"instance_type": "g6.xlarge", "capacity": "on-demand", "price": 0.8, "cost": cost}
    first: Rung = quote.first.model_copy(update=bought if cost is not None else {})
    provider = {"provider": "karpenter", "cloud": "aws"} if cost is not None else {}
    return quote.model_copy(update={"ladder": [first], **provider, **changes})


def a_report(name: str = "") -> EvaluationReport:
    """Return the report of a real run: of the golden one, or of one of those in `EARLIER`."""
    return read_report(EARLIER / f"{name}.json" if name else golden("version/report.json"))


def a_job(**changes: Any) -> JobRecord:
    """Return a job with some other values."""
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": "auto"}}}
    values: dict[str, Any] = {
        "id": "ftjob-pets-shop-0123456789ab",
        "run": "pets-shop-0123456789ab",
        "team": "pets",
        "created_at": NOW,
        "model": "qwen3-8b",
        "name": "pets-shop",
        "training_file": f"file-{'a' * 16}{'1' * 16}",
        "method": method,
        "seed": 17,
    }
    return JobRecord(**{**values, **changes})


class StatedJobs:
    """A `JobPlace` whose answers are set."""

    def __init__(self, quote: Quote | None = None) -> None:
        self.given: Quote | None = quote
        self.refused_keys: Mapping[str, str] = {}
        self.mistake = ""  # with which a plan refuses
        self.kept: dict[str, JobRecord] = {}
        self.recipes: dict[str, Recipe] = {}
        self.states: dict[str, JobState] = {}
        self.costs: dict[str, float] = {}  # real ones
        self.budgets: dict[str, float | None] = {}  # with which jobs were resumed
        self.quoted = 0

    def quote(self, recipe: Recipe) -> Quote | None:
        self.quoted += 1
        if self.mistake:
            raise UserError(self.mistake)
        return self.given

    def create(self, job: JobRecord, recipe: Recipe) -> None:
        if job.id not in self.kept:
            self.kept[job.id], self.recipes[job.id] = job, recipe
            self.states[job.id] = JobState("queued", quote=self.given)

    def jobs(self, team: str) -> list[JobRecord]:
        return [job for job in reversed(self.kept.values()) if job.team == team]

    def job(self, team: str, job_id: str) -> JobRecord | None:
        found = self.kept.get(job_id)
        return found if found and found.team == team else None

    def state(self, job: JobRecord) -> JobState:
        return self.states[job.id]

    def known_to_have_ended(self, job: JobRecord) -> bool:
        return False

    def spent(self, job: JobRecord) -> Spent:
        """Final once the job has ended and its cost is set, or if it has got no node before it ended."""
        ended = self.states[job.id].status in ENDED
        return Spent(self.costs.get(job.id, 0.0), ended and (job.id in self.costs or not self.states[job.id].node))

    def say(self, job_id: str, status: Status, **changes: Any) -> None:
        """Let a job have a state."""
        self.states[job_id] = replace(self.states[job_id], status=status, **changes)

    def cancel(self, job: JobRecord) -> None:
        self._want(job, "cancel", "cancelled")

    def pause(self, job: JobRecord) -> None:
        self._want(job, "pause", "paused")

    def resume(self, job: JobRecord, budget: float | None = None) -> None:
        self.budgets[job.id] = budget
        self._want(job, "run", "queued")

    def _want(self, job: JobRecord, wanted: Wanted, status: Status) -> None:
        if self.states[job.id].status not in ENDED:
            self.kept[job.id] = self.kept[job.id].wanting(wanted, time.time())
            self.say(job.id, status)
