"""What a team may still ask for: dollars in a calendar month, and jobs at once."""

import datetime
from collections.abc import Iterable

from api.jobs.job_place import ENDED, JobPlace
from api.jobs.job_record import JobRecord
from api.openai_errors import ApiError
from api.teams.caller import Limits
from steps.common.handover.resolved import Quote
from steps.common.nodes.node_provider import buys


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


def dollars_left(limits: Limits, jobs: Iterable[JobRecord], place: JobPlace, now: float) -> float | None:
    """Return the dollars that the quotes of a team's jobs have left of its calendar month in UTC; None: it has no limit.

    Args:
        limits: of the team.
        jobs: of the team.
        place: where they run.
        now: Unix time.
    """
    if limits.dollars_a_month is None:
        return None
    spent = sum(quoted_dollars(job, place) for job in jobs if _month(job.created_at) == _month(now))
    return round(limits.dollars_a_month - spent, 6)


def check_dollars(left: float | None, limits: Limits, quote: Quote | None) -> None:
    """Refuse a job whose quote exceeds what is left. One without a quote buys nothing.

    Raises:
        ApiError: with the quote and what is left.
    """
    if left is None or quote is None:
        return
    cost, on = quote.first.cost, quote.first.name
    if cost is None and buys(quote.provider):
        raise ApiError(
            429,
            f"the price of {on} is not known, and the team has a limit of ${limits.dollars_a_month:.2f} a month; name instance "
            "types with known prices in recipe.compute.instance_types",
            code="insufficient_quota",
        )
    if cost is None or cost <= max(0.0, left):
        return
    raise ApiError(
        429,
        f"the job is quoted at ${cost:.2f} on {on}, and of the team's ${limits.dollars_a_month:.2f} a month "
        f"${max(0.0, left):.2f} are left until the month ends (UTC); train on less, choose a smaller base model, or have the "
        "limit raised",
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
