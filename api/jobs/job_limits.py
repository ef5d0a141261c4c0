"""What a team may still ask for: dollars in a calendar month, and jobs at once."""

import datetime
from collections.abc import Iterable

from api.jobs.job_place import ENDED, JobPlace
from api.jobs.job_record import JobRecord
from api.openai_errors import ApiError
from api.teams.caller import Limits
from steps.common.handover.resolved import Quote


def check_jobs_at_once(limits: Limits, jobs: Iterable[JobRecord], place: JobPlace) -> None:
    """Refuse a job beyond those that a team may have waiting and running at once. Paused ones do not count.

    Raises:
        ApiError: with the limit.
    """
    most = limits.jobs_at_once
    if most is None:
        return
    active = [job.id for job in jobs if place.state(job).status not in (*ENDED, "paused")]
    if len(active) >= most:
        raise ApiError(
            429,
            f"{len(active)} jobs of the team wait or run ({', '.join(active[:3])}), and its limit is {most}; wait for one, or "
            "cancel or pause one",
            code="jobs_at_once_exceeded",
        )


def check_dollars(limits: Limits, jobs: Iterable[JobRecord], place: JobPlace, quote: Quote | None, now: float) -> None:
    """Refuse a job whose quote, with those of the team's jobs of this calendar month in UTC, exceeds the team's dollars.

    Args:
        limits: of the team.
        jobs: of the team.
        place: where they run.
        quote: of the new job; None: not known, which counts nothing until the run has made it.
        now: Unix time.

    Raises:
        ApiError: with the quote and what is left.
    """
    most = limits.dollars_a_month
    if most is None:
        return
    spent = sum(quoted_dollars(job, place) for job in jobs if _month(job.created_at) == _month(now))
    cost = (quote.first.cost if quote else None) or 0.0
    if spent + cost <= most:
        return
    raise ApiError(
        429,
        f"the job is quoted at ${cost:.2f}{_on(quote)}, the team's jobs of this month (UTC) at ${spent:.2f}, and its limit is "
        f"${most:.2f}; train on less, choose a smaller base model, or have the limit raised",
        code="insufficient_quota",
    )


def quoted_dollars(job: JobRecord, place: JobPlace) -> float:
    """Return the dollars at which a job counts: its quote, and nothing if it was cancelled before it started."""
    if job.quoted_dollars is not None and job.wanted != "cancel":
        return job.quoted_dollars
    state = place.state(job)
    if state.status == "cancelled" and not state.started:
        return 0.0
    of_the_run = state.quote.first.cost if state.quote else None
    return (of_the_run if job.quoted_dollars is None else job.quoted_dollars) or 0.0


def _month(time: float) -> tuple[int, int]:
    then = datetime.datetime.fromtimestamp(time, datetime.UTC)
    return then.year, then.month


def _on(quote: Quote | None) -> str:
    return f" on {quote.first.name}" if quote else ""
