"""A job as the API returns it: OpenAI's `FineTuningJob`, from the job's record and the state of its run."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from api.jobs.file_places import first_named, with_ids
from api.jobs.job_place import ENDED, JobState, Status
from api.jobs.job_record import JobRecord
from api.openai_errors import BUDGET_EXHAUSTED
from pipelines.shown.task_state import Phase
from steps.common.nodes.ledger import OVER_LIMITS, REACHED
from steps.common.runtime.errors import INTERRUPTED, USER_ERROR

CODES = {USER_ERROR: "invalid_job", INTERRUPTED: "unreachable"}  # of an error, by the exit code of the step that failed
REFUSED, FAULT = "candidate_refused", "server_error"
# The task of each leg of a quote that has a different name.
TASK_OF_LEG = {"load": "tune"}


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class FineTuningJob(BaseModel):
    """A fine-tuning job. Times are Unix seconds."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    id: str
    created_at: int
    finished_at: int | None = Field(description="Null until the job has ended.")
    estimated_finish: int | None = Field(description="From the quote and the progress. Null unless the job is running.")
    status: Status
    error: JobError | None = Field(description="Why the job failed. For a refused candidate, the gate's reasons.")
    model: str = Field(description="Base model.")
    fine_tuned_model: str | None = Field(
        description="Name of the tuned model. Null until it has passed the gate and is served."
    )
    organization_id: str = Field(description="The team.")
    training_file: str
    validation_file: str | None
    result_files: list[str] = Field(description="Id of the file with the step metrics, once the job has ended.")
    trained_tokens: int | None
    method: dict[str, Any]
    hyperparameters: dict[str, int | float | str] = Field(description="Hyperparameters of the method.")
    seed: int
    user_provided_suffix: str | None
    metadata: dict[str, str] | None
    integrations: list[Any] | None


def job_object(job: JobRecord, state: JobState, result_files: list[str], now: float) -> FineTuningJob:
    """Return a job as the API returns it.

    Args:
        job: its record.
        state: the state of its run.
        result_files: ids of its result files.
        now: Unix time.
    """
    ended = state.status in ENDED
    made = state.status == "succeeded" and state.version is not None
    return FineTuningJob(
        id=job.id,
        created_at=job.created_at,
        finished_at=int(state.finished or job.wanted_at or job.created_at) if ended else None,
        estimated_finish=estimated_finish(state, now),
        status=state.status,
        error=error_of(job, state),
        model=job.model,
        fine_tuned_model=job.name if made else None,
        organization_id=job.team,
        training_file=job.training_file,
        validation_file=job.validation_file,
        result_files=result_files,
        trained_tokens=state.trained_tokens if ended else None,
        method=job.method,
        hyperparameters=job.method.get(job.method["type"], {}).get("hyperparameters", {}),
        seed=job.seed,
        user_provided_suffix=job.suffix,
        metadata=job.metadata,
        integrations=None,
    )


def reasons_of(state: JobState) -> list[str]:
    """Return why a version was accepted or refused; empty if it has not been judged yet."""
    if state.report:
        return state.report.reasons
    _, _, reasons = state.verdict.partition(": ")
    return [reason for reason in reasons.split("; ") if reason]


def error_of(job: JobRecord, state: JobState) -> JobError | None:
    """Return why a job failed; None if it did not."""
    if state.status != "failed":
        return None
    by_gate = bool(state.report and not state.report.passed)
    if state.refused:
        reasons = reasons_of(state) if by_gate or not state.message else [state.message]
        who = "the gate refused the candidate" if by_gate else "the candidate was refused"
        return JobError(
            code=REFUSED, message=f"{who}: {'; '.join(_told(job, reason) for reason in reasons)}", param=None
        )
    message = _told(job, state.message) or "the run failed; ask the administrator to look in its log"
    fields = {"training_file": job.training_file, "validation_file": job.validation_file}
    exhausted = REACHED in state.message or state.message.startswith(OVER_LIMITS)
    code = BUDGET_EXHAUSTED if exhausted else CODES.get(_exit_code(state), FAULT)
    return JobError(code=code, message=message, param=first_named(message, fields.items()))


def _told(job: JobRecord, text: str) -> str:
    return with_ids(text, job.files)


def _exit_code(state: JobState) -> int:
    failed = [task.exit_code for task, _ in state.tasks.values() if task.phase is Phase.FAILED]
    return failed[0] if failed else 1


def estimated_finish(state: JobState, now: float) -> int | None:
    """Return when a running job should end, from the quote of each step, less what is done; None: not known."""
    if state.status != "running" or not state.quote:
        return None
    left: dict[str, float] = {}
    for leg, minutes in state.quote.first.minutes.items():
        task = TASK_OF_LEG.get(leg, leg)
        left[task] = left.get(task, 0.0) + 60 * minutes
    for task in left:
        if task in state.tasks:
            left[task] = _left(state, task, left[task], now)
    return int(now + sum(left.values()))


def _left(state: JobState, task: str, quoted: float, now: float) -> float:
    """Return how many seconds a task that has begun should still take."""
    begun, _ = state.tasks[task]
    if begun.phase not in (Phase.PENDING, Phase.RUNNING):
        return 0.0
    start, _ = state.times.get(task, (0.0, 0.0))
    if task == "tune" and state.quote and start:
        done = [one for one in state.measurements if one.time >= start and one.train_loss is not None]
        if len(done) > 1 and done[-1].step > done[0].step:
            pace = (done[-1].time - done[0].time) / (done[-1].step - done[0].step)
            return max(0.0, (state.quote.steps - done[-1].step) * pace - (now - done[-1].time))
    elapsed = now - start if start else begun.seconds
    return max(0.0, quoted - elapsed)
