"""`/fine_tuning/jobs`: creates, reads, pauses, resumes, and cancels jobs for OpenAI's clients."""

import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams

from api.database.team_lock import team_lock
from api.files.team_files import TRAINING, find
from api.jobs.create_body import CreateBody
from api.jobs.file_places import first_named, with_ids
from api.jobs.job_checkpoints import FineTuningJobCheckpoint, checkpoints_of
from api.jobs.job_events import FineTuningJobEvent, events_of, quote_in_words
from api.jobs.job_limits import (
    SeenStates,
    budget_to_resume,
    check_dollars,
    check_jobs_at_once,
    dollars_left,
    with_budget,
)
from api.jobs.job_object import FineTuningJob, job_object
from api.jobs.job_place import ENDED
from api.jobs.job_record import ID_PREFIX, JobRecord, id_of
from api.jobs.recipe_of_job import JobData, recipe_of
from api.jobs.row_size import mean_row_tokens
from api.jobs.step_metrics import result_files
from api.models.model_names import RUN_UNIQUE, model_name, run_name
from api.models.model_owners import claim
from api.openai_errors import ApiError, not_found
from api.paging import After, Limit, Page, paged
from api.server.authentication import TheCaller
from api.server.services import Services, TheServices
from api.teams.caller import Caller
from recipes.recipe import Recipe
from steps.common.handover.resolved import Quote
from steps.common.runtime.errors import UserError, first_line

ID = re.compile(rf"{ID_PREFIX}[a-z0-9][a-z0-9-]{{0,80}}")
# A client sends a request again if it got no answer. Within this time, an equal request that says so counts as the same.
REPEATED_SECONDS = 900
METADATA_KEY = re.compile(r"metadata\[(.*)\]", re.DOTALL)
# `metadata[key]=value`, which FastAPI has no type for.
METADATA_PARAMETER: dict[str, Any] = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "required": False,
            "style": "deepObject",
            "explode": True,
            "description": "Only jobs with these pairs, as metadata[KEY]=VALUE; metadata=null: only jobs without metadata.",
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ]
}

router = APIRouter(prefix="/fine_tuning/jobs", tags=["Fine-tuning"])


@router.post("")
async def create_job(
    body: CreateBody,
    caller: TheCaller,
    services: TheServices,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
    x_stainless_retry_count: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> FineTuningJob:
    """Create a job.

    A request that repeats an `Idempotency-Key` returns the job that the first one created.
    """
    unique = _unique(caller.team, idempotency_key)
    repeated = _Repeated(caller.team, body.digest(), unique if idempotency_key else "", x_stainless_retry_count or "0")
    if found := await run_in_threadpool(_answered_before, services, caller, repeated):
        return found
    name = model_name(caller.team, body.suffix, body.model, unique)
    plan = await services.plans.run(caller.team, _planned, services, caller, body, name)
    job = _record(caller, body, name, run_name(name, unique), plan, repeated.request)
    return await services.changes.run(caller.team, _created, services, caller, job, plan, repeated)


def _answered_before(services: Services, caller: Caller, repeated: "_Repeated") -> FineTuningJob | None:
    """Return the answer if the same request has already created a job; None if a job may be created.

    Raises:
        ApiError: the team has as many jobs as it may have at once.
    """
    if found := _created_before(services, repeated):
        return _answer(services, found)
    check_jobs_at_once(caller.limits, services.jobs.jobs(caller.team), services.jobs)
    return None


def _created(
    services: Services, caller: Caller, job: JobRecord, plan: "_Planned", repeated: "_Repeated"
) -> FineTuningJob:
    """Create a job, and return it.

    Raises:
        ApiError: the team has reached a limit, the model's name is not free, or a file was deleted meanwhile.
    """
    with team_lock(services.sessions, caller.team):
        # Again, since the earlier request may have created the job meanwhile.
        if found := _created_before(services, repeated):
            return _answer(services, found)
        jobs, states = services.jobs.jobs(caller.team), SeenStates(services.jobs)
        check_jobs_at_once(caller.limits, jobs, states)
        left = dollars_left(caller.limits, jobs, states, time.time())
        check_dollars(left, caller.limits, plan.quote)
        _claim(services, caller, job.name, jobs, states)
        _create(services, job, with_budget(plan.recipe, left, plan.quote), plan.files)
    return _answer_anew(services, job)


def _create(services: Services, job: JobRecord, recipe: Recipe, files: list[tuple[str, str]]) -> None:
    """Create a job unless one of its files was deleted while it was planned."""
    # Under this lock, no content is deleted.
    with services.contents.lock(), services.sessions() as session:
        for field, file_id in files:
            find(session, job.team, file_id, field)
        services.jobs.create(job, recipe)


def _claim(services: Services, caller: Caller, name: str, jobs: list[JobRecord], states: SeenStates) -> None:
    most, unfinished = caller.limits.models, set[str]()
    if most is not None:  # only a limit needs the state of each job
        unfinished = {job.name for job in jobs if not states.has_ended(job)}
    with services.sessions() as session:
        claim(session, caller.team, name, most, unfinished)


def _unique(team: str, idempotency_key: str | None) -> str:
    """Return digits that no other job has; the same key of a team gives the same digits."""
    if not idempotency_key:
        return secrets.token_hex(RUN_UNIQUE)
    return hashlib.sha256(f"{team}\n{idempotency_key}".encode()).hexdigest()


@dataclass(frozen=True)
class _Repeated:
    """What shows that a request repeats an earlier one."""

    team: str
    request: str  # its digest
    unique: str  # the digits for its Idempotency-Key; empty: it has none
    retries: str  # how many times the client has sent it before, as OpenAI's clients say


def _created_before(services: Services, repeated: _Repeated) -> JobRecord | None:
    """Return the job that the same request has already created; None if the request does not say that it is a repetition.

    Raises:
        ApiError: the Idempotency-Key was sent with a different request.
    """
    if repeated.unique:
        end = f"-{repeated.unique[:RUN_UNIQUE]}"
        found = next((job for job in services.jobs.jobs(repeated.team) if job.run.endswith(end)), None)
        if found and found.request != repeated.request:
            raise ApiError(
                409,
                f"the Idempotency-Key was sent with a different request, which created {found.id}; send a new key",
                code="idempotency_key_reused",
            )
        return found
    if repeated.retries == "0":
        return None
    recent = [job for job in services.jobs.jobs(repeated.team) if job.created_at >= time.time() - REPEATED_SECONDS]
    return next((job for job in recent if job.request == repeated.request), None)


@dataclass(frozen=True)
class _Planned:
    """The recipe of a request, and its quote if it is known."""

    recipe: Recipe
    quote: Quote | None
    files: list[tuple[str, str]]  # each field that names a file, and the file's id


def _planned(services: Services, caller: Caller, body: CreateBody, name: str) -> _Planned:
    """Return the recipe of a request, with its quote.

    Raises:
        ApiError: a run of it would fail, or it names something that the team does not have.
        UnreachableError: something that the plan needs did not answer.
    """
    files: list[tuple[str, str]] = []

    def address(file_id: str, field: str) -> str:
        files.append((field, file_id))
        with services.sessions() as session:
            file = find(session, caller.team, file_id, field)
            if file.purpose != TRAINING:
                raise ApiError(
                    400,
                    f"{file_id} has the purpose {file.purpose}; upload the rows with the purpose {TRAINING}",
                    param=field,
                )
            return services.contents.address(file)

    def row_tokens(objective: str) -> float:
        return mean_row_tokens(address(body.training_file, "training_file"), objective)

    try:
        recipe = recipe_of(body, name, JobData(address, row_tokens, services.jobs.refused_keys))
        return _Planned(recipe, services.jobs.quote(recipe), files)
    except UserError as error:
        message = with_ids(first_line(error), [one for _, one in files])
        raise ApiError(400, message, param=first_named(message, files) or _field_of(message)) from None


def _field_of(message: str) -> str | None:
    """Return the field of the request that an error of the plan is about; the message begins with the recipe's key."""
    key = message.partition(":")[0]
    if key.startswith("model"):
        return "model"
    return f"recipe.{key}" if re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)+", key) else None


def _record(caller: Caller, body: CreateBody, name: str, run: str, plan: _Planned, request: str) -> JobRecord:
    return JobRecord(
        id=id_of(run),
        run=run,
        team=caller.team,
        created_at=int(time.time()),
        model=body.model,
        name=name,
        training_file=body.training_file,
        validation_file=body.validation_file,
        files=list(dict.fromkeys(file_id for _, file_id in plan.files)),
        method=body.wanted_method.in_answers(),
        seed=plan.recipe.tune.seed,
        suffix=body.suffix,
        metadata=body.metadata,
        quote=quote_in_words(plan.quote) if plan.quote else "",
        quoted_dollars=plan.quote.first.cost if plan.quote else None,
        request=request,
    )


@router.get("", openapi_extra=METADATA_PARAMETER)
def list_jobs(
    request: Request, caller: TheCaller, services: TheServices, after: After = None, limit: Limit = 20
) -> Page[FineTuningJob]:
    """List the team's jobs, the newest first."""
    wanted = _wanted_metadata(request.query_params)
    jobs = [job for job in services.jobs.jobs(caller.team) if _has(job, wanted)]
    page = paged(jobs, lambda job: job.id, after, limit)
    return Page(
        data=[_answer(services, job) for job in page.data],
        has_more=page.has_more,
        first_id=page.first_id,
        last_id=page.last_id,
    )


Filter = dict[str, str] | Literal["null"]


def _wanted_metadata(query: QueryParams) -> Filter:
    pairs = {match[1]: value for key, value in query.multi_items() if (match := METADATA_KEY.fullmatch(key))}
    bare = query.get("metadata")
    if bare is None or (bare == "" and not pairs):
        return pairs
    if bare != "null" or pairs:
        raise ApiError(400, "metadata: write metadata[KEY]=VALUE, or only metadata=null", param="metadata")
    return "null"


def _has(job: JobRecord, wanted: Filter) -> bool:
    if wanted == "null":
        return job.metadata is None
    return all((job.metadata or {}).get(key) == value for key, value in wanted.items())


@router.get("/{job_id}")
def retrieve_job(job_id: str, caller: TheCaller, services: TheServices) -> FineTuningJob:
    """Return a job."""
    return _answer(services, _job(services, caller, job_id))


@router.get("/{job_id}/events")
def list_events(
    job_id: str, caller: TheCaller, services: TheServices, after: After = None, limit: Limit = 20
) -> Page[FineTuningJobEvent]:
    """List the events of a job, the newest first."""
    job = _job(services, caller, job_id)
    return paged(events_of(job, services.jobs.state(job)), lambda event: event.id, after, limit)


@router.get("/{job_id}/checkpoints")
def list_checkpoints(
    job_id: str, caller: TheCaller, services: TheServices, after: After = None, limit: Limit = 10
) -> Page[FineTuningJobCheckpoint]:
    """List the checkpoints of a job that can be used as a model: once it has succeeded, its tuned model."""
    job = _job(services, caller, job_id)
    return paged(checkpoints_of(job, services.jobs.state(job)), lambda one: one.id, after, limit)


@router.post("/{job_id}/cancel")
def cancel_job(job_id: str, caller: TheCaller, services: TheServices) -> FineTuningJob:
    """Cancel a job for good."""
    job = _to_steer(services, caller, job_id, "cancelled")
    services.jobs.cancel(job)
    return _answer_anew(services, job)


@router.post("/{job_id}/pause")
def pause_job(job_id: str, caller: TheCaller, services: TheServices) -> FineTuningJob:
    """Pause a job at a checkpoint and give its node back. It can be resumed."""
    job = _to_steer(services, caller, job_id, "paused")
    services.jobs.pause(job)
    return _answer_anew(services, job)


@router.post("/{job_id}/resume")
async def resume_job(job_id: str, caller: TheCaller, services: TheServices) -> FineTuningJob:
    """Resume a paused job."""
    return await services.changes.run(caller.team, _resumed, services, caller, job_id)


def _resumed(services: Services, caller: Caller, job_id: str) -> FineTuningJob:
    job = _to_steer(services, caller, job_id, "resumed")
    with team_lock(services.sessions, caller.team):
        if job.wanted == "pause" or services.jobs.state(job).status == "paused":
            jobs, states = services.jobs.jobs(caller.team), SeenStates(services.jobs)
            check_jobs_at_once(caller.limits, jobs, states)
            now = time.time()
            left = dollars_left(caller.limits, jobs, states, now)
            services.jobs.resume(job, budget_to_resume(job, left, caller.limits, states, now))
    return _answer_anew(services, job)


def _to_steer(services: Services, caller: Caller, job_id: str, how: str) -> JobRecord:
    """Return a job that has not ended, or has already ended in the requested way.

    Raises:
        ApiError: the team has no such job, or it has ended.
    """
    job = _job(services, caller, job_id)
    status = services.jobs.state(job).status
    if status in ENDED and status != how:
        raise ApiError(400, f"{job_id} has {_ended(status)}, so it cannot be {how}", param="job_id", code="job_ended")
    return job


def _ended(status: str) -> str:
    return "been cancelled" if status == "cancelled" else status


def _job(services: Services, caller: Caller, job_id: str) -> JobRecord:
    found = services.jobs.job(caller.team, job_id) if ID.fullmatch(job_id) else None
    if found is None:
        raise not_found("job", job_id, "job_id")
    return found


def _answer_anew(services: Services, job: JobRecord) -> FineTuningJob:
    return _answer(services, services.jobs.job(job.team, job.id) or job)


def _answer(services: Services, job: JobRecord) -> FineTuningJob:
    state = services.jobs.state(job)
    files: list[str] = []
    if state.status in ENDED:
        with services.sessions() as session:
            files = result_files(session, services.contents, job, state)
    return job_object(job, state, files, time.time())
