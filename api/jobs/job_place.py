"""Where jobs run: this machine, or a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from api.jobs.job_record import JobRecord
from pipelines.shown.task_state import TaskState
from recipes.recipe import Recipe
from steps.common.handover.report import EvaluationReport
from steps.common.handover.resolved import Quote

Status = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
ENDED: tuple[Status, ...] = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Measurement:
    """The losses of a training at one step, as far as they were measured."""

    step: int
    time: float  # Unix time
    train_loss: float | None = None
    held_out_loss: float | None = None


@dataclass(frozen=True)
class JobState:
    """The state of a job's run."""

    status: Status
    tasks: Mapping[str, tuple[TaskState, str]] = field(default_factory=dict)  # by name: its state and latest progress
    times: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # Unix times of start and end; 0: not yet
    started: float = 0.0  # Unix time; 0: not yet
    finished: float = 0.0  # Unix time; 0: not yet
    message: str = ""  # why it failed
    refused: bool = False  # by the gate or the rollout, not by a fault
    quote: Quote | None = None
    node: str = ""  # of the training; empty: none yet, or this machine
    report: EvaluationReport | None = None
    verdict: str = ""
    version: int | None = None  # that was registered
    url: str = ""  # at which the model is served
    trained_tokens: int | None = None
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True)
class Spent:
    """What the nodes of a job have cost."""

    dollars: float
    final: bool  # nothing can be added any more


def registered_version(output: str) -> int | None:
    """Return the version in an output of the step register; None if there is none yet."""
    return int(output) if output.isdigit() else None


class JobPlace(Protocol):
    """Creates, reads, and controls the runs of jobs. Several processes may call any method at any time."""

    @property
    def refused_keys(self) -> Mapping[str, str]:
        """The keys of a recipe that no run of a job can have here, and why."""

    def quote(self, recipe: Recipe) -> Quote | None:
        """Check a recipe, and return its quote; None if only a run of it can tell, which then buys nothing.

        Raises:
            UserError: a run of it would fail.
            UnreachableError: something that the check needs did not answer.
        """

    def create(self, job: JobRecord, recipe: Recipe) -> None:
        """Create the job's run, named `job.run`; a job that exists stays as it is.

        Once this returns, the job is not lost. If this fails, the job may or may not exist.
        """

    def jobs(self, team: str) -> list[JobRecord]:
        """Return a team's jobs, the newest first."""

    def job(self, team: str, job_id: str) -> JobRecord | None:
        """Return a job of a team, or None."""

    def state(self, job: JobRecord) -> JobState:
        """Return the state of a job."""

    def known_to_have_ended(self, job: JobRecord) -> bool:
        """Return whether a job has ended, without reading its run; False: its state tells.

        Args:
            job: its present record.
        """

    def spent(self, job: JobRecord) -> Spent:
        """Return what the nodes of a job have cost so far, over all of its pauses.

        Args:
            job: its present record.
        """

    def cancel(self, job: JobRecord) -> None:
        """Stop the job's run for good, if it has not ended."""

    def pause(self, job: JobRecord) -> None:
        """Stop the job's run at a checkpoint, and give its node back; the job can be resumed."""

    def resume(self, job: JobRecord, budget: float | None = None) -> None:
        """Resume a paused job.

        Args:
            job: the job.
            budget: dollars that all of its nodes may cost, those before the pause included; None: no more than its recipe says.
        """
