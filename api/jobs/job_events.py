"""What happened to a job, as OpenAI's events: derived from the job's record and the state of its run, and stored nowhere.

The same record and state give the same events with the same ids, and a later state only adds to them as a rule: an event that
tells a time has that time in its id, so a step that is run again gets events of its own.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from api.jobs.file_places import with_ids
from api.jobs.job_object import error_of, reasons_of
from api.jobs.job_place import ENDED, JobState, Measurement
from api.jobs.job_record import JobRecord, Wanted
from pipelines.shown.task_state import REUSED, Phase
from steps.common.handover.resolved import Quote
from steps.common.nodes.node_provider import buys
from steps.common.runtime.errors import GATE_REFUSED, INTERRUPTED
from steps.common.runtime.progress import duration
from steps.plan.step import in_words

Level = Literal["info", "warn", "error"]
WISHES: dict[Wanted, str] = {
    "pause": "Pause asked for",
    "run": "Resumption asked for",
    "cancel": "Cancellation asked for",
}
ENDS = {
    Phase.SUCCEEDED: "done",
    Phase.FAILED: "failed",
    Phase.INTERRUPTED: "stopped",
}
NOT_BEGUN = (Phase.PENDING, Phase.SKIPPED, Phase.OMITTED)


class FineTuningJobEvent(BaseModel):
    """Something that happened to a job."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    id: str
    created_at: int
    level: Level
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None


@dataclass(frozen=True)
class Happening:
    """An event without its id."""

    key: str  # of its own among the job's
    time: float
    message: str
    level: Level = "info"
    metrics: dict[str, Any] = field(default_factory=dict)


def events_of(job: JobRecord, state: JobState) -> list[FineTuningJobEvent]:
    """Return the events of a job, the newest first."""
    found = sorted(_happenings(job, state), key=lambda one: one.time)
    return [_event(job, one) for one in reversed(found)]


def _event(job: JobRecord, one: Happening) -> FineTuningJobEvent:
    digest = hashlib.sha256(f"{job.id} {one.key}".encode()).hexdigest()[:24]
    return FineTuningJobEvent(
        id=f"ftevent-{digest}",
        created_at=int(one.time),
        level=one.level,
        message=with_ids(one.message, job.files),
        type="metrics" if one.metrics else "message",
        data=one.metrics or None,
    )


def _happenings(job: JobRecord, state: JobState) -> Iterator[Happening]:
    """Yield what happened; of what has the same time, the earlier first."""
    created = float(job.created_at)
    yield Happening("created", created, f"Created fine-tuning job: {job.id}")
    if job.quote:
        yield Happening("quote", created, f"Quote: {job.quote}")
    yield Happening("queued", created, "Fine-tuning job queued")
    planned = state.times.get("plan", (0.0, 0.0))[1]
    if state.quote and planned and not job.quote:
        yield Happening("quote", planned, f"Quote: {quote_in_words(state.quote)}")
    yield from _wishes(job)
    if state.started:
        yield Happening(f"started {int(state.started)}", state.started, "Fine-tuning job started")
    yield from _tasks(state)
    yield from map(_measured, state.measurements)
    yield from _outcome(job, state)


def quote_in_words(quote: Quote) -> str:
    """Return a quote with its minutes and dollars as one line."""
    cost = quote.first.cost
    unpriced = "dollars that are not known" if buys(quote.provider) else "no dollars, since nothing is bought"
    dollars = unpriced if cost is None else f"${cost:.2f}"
    minutes = max(1, round(sum(quote.first.minutes.values())))
    return f"about {minutes} minute{'s' if minutes > 1 else ''} and {dollars}; {in_words(quote)}"


def _wishes(job: JobRecord) -> Iterator[Happening]:
    for number, (at, wanted) in enumerate(job.wishes):
        yield Happening(f"wish {number}", at, WISHES[wanted])


def _tasks(state: JobState) -> Iterator[Happening]:
    for name, (task, _) in sorted(state.tasks.items(), key=lambda one: state.times.get(one[0], (0.0, 0.0))):
        start, end = state.times.get(name, (0.0, 0.0))
        if task.phase in NOT_BEGUN or task.message == REUSED:
            continue
        if start:
            yield Happening(f"task {name} from {int(start)}", start, f"Step {name}: started")
        if not end or task.phase not in ENDS:
            continue
        if name == "provision" and state.node and task.phase is Phase.SUCCEEDED:
            yield Happening(f"node {int(end)}", end, f"Node: {state.node}")
        took = f" after {duration(task.seconds)}" if task.seconds else ""
        why = f": {task.message}" if task.message and task.phase is not Phase.SUCCEEDED else ""
        level: Level = "error" if task.phase is Phase.FAILED and task.exit_code != INTERRUPTED else "info"
        how = "refused" if task.exit_code == GATE_REFUSED else ENDS[task.phase]
        yield Happening(f"task {name} to {int(end)}", end, f"Step {name}: {how}{took}{why}", level)


def _measured(one: Measurement) -> Happening:
    metrics: dict[str, Any] = {"step": one.step}
    words = []
    for name, called, value in (
        ("train_loss", "training loss", one.train_loss),
        ("valid_loss", "validation loss", one.held_out_loss),
    ):
        if value is not None and math.isfinite(value):
            metrics[name] = value
            words.append(f"{called}={value:.4f}")
    losses = ", ".join(words) or "no loss that is a number"
    kind = "" if one.held_out_loss is None else " held out"
    return Happening(f"step {one.step}{kind} {int(one.time)}", one.time, f"Step {one.step}: {losses}", metrics=metrics)


def _outcome(job: JobRecord, state: JobState) -> Iterator[Happening]:
    finished = state.finished or float(job.wanted_at or job.created_at)
    judged = state.times.get("evaluate", (0.0, 0.0))[1] or finished
    if state.report or state.verdict:
        passed = state.report.passed if state.report else state.verdict.startswith("passed")
        level: Level = "info" if passed else "error"
        yield Happening("verdict", judged, f"Gate: {'passed' if passed else 'refused'}", level)
        for number, reason in enumerate(reasons_of(state)):
            yield Happening(f"reason {number}", judged, f"Gate: {reason}", level)
    if state.version is not None:
        at = state.times.get("register", (0.0, 0.0))[1] or finished
        yield Happening("registered", at, f"Registered: {job.name}, version {state.version}")
    if state.url and state.status == "succeeded":
        at = state.times.get("rollout", (0.0, 0.0))[1] or finished
        yield Happening("served", at, f"Rolled out: {job.name}, version {state.version}, is served")
    if state.status == "paused":
        yield Happening(f"paused {job.wanted_at}", max(finished, job.wanted_at), "Paused: the checkpoint is kept")
    if state.status not in ENDED:
        return
    if state.status == "succeeded":
        yield Happening("succeeded", finished, f"The job has successfully completed: {job.name}")
    elif state.status == "cancelled":
        yield Happening("cancelled", finished, "The job was cancelled", "warn")
    elif error := error_of(job, state):
        yield Happening("failed", finished, f"The job failed: {error.message}", "error")
