"""Dollars a month and jobs at once."""

import datetime
from typing import Any

import pytest

from api.jobs.job_limits import check_dollars, check_jobs_at_once, dollars_left, quoted_dollars
from api.jobs.job_place import JobState
from api.jobs.job_record import JobRecord
from api.openai_errors import ApiError
from api.teams.caller import Limits
from tests.support.stated_jobs import NOW, StatedJobs, a_job, a_quote

MONTH = int(datetime.datetime(2026, 9, 1, tzinfo=datetime.UTC).timestamp())


def place_of(*jobs: tuple[JobRecord, JobState]) -> tuple[StatedJobs, list[JobRecord]]:
    place = StatedJobs()
    for job, state in jobs:
        place.kept[job.id], place.states[job.id] = job, state
    return place, [job for job, _ in jobs]


def one(number: int, state: JobState | None = None, **changes: Any) -> tuple[JobRecord, JobState]:
    return a_job(id=f"ftjob-{number}", run=str(number), **changes), state or JobState("succeeded", started=1.0)


def test_the_quotes_of_this_month_count() -> None:
    place, jobs = place_of(
        one(1, created_at=MONTH - 1, quoted_dollars=100.0),  # of the month before, by a second
        one(2, created_at=MONTH, quoted_dollars=3.5),
        one(3, created_at=NOW, quoted_dollars=2.0),
        one(4, created_at=NOW),  # nothing was bought
        one(5, JobState("running", quote=a_quote(cost=1.5)), created_at=NOW),  # quoted by its own run
    )
    assert dollars_left(Limits(), jobs, place, NOW) is None
    assert dollars_left(Limits(dollars_a_month=10), jobs, place, NOW) == pytest.approx(3.0)


def test_a_job_that_was_cancelled_before_it_started_costs_nothing() -> None:
    place, jobs = place_of(
        one(1, JobState("cancelled"), quoted_dollars=3.0, wanted="cancel"),
        one(2, JobState("cancelled", started=1.0), quoted_dollars=4.0, wanted="cancel"),
        one(3, JobState("running", started=1.0), quoted_dollars=5.0, wanted="cancel"),
    )
    assert [quoted_dollars(job, place) for job in jobs] == [0.0, 4.0, 5.0]


def test_a_job_beyond_the_dollars_is_refused_with_its_quote() -> None:
    limits = Limits(dollars_a_month=10)
    check_dollars(0.3, limits, a_quote(cost=0.1 + 0.2 - 1e-9))
    check_dollars(0.0, limits, a_quote())  # on this machine, where nothing is bought
    with pytest.raises(
        ApiError, match=r"quoted at \$4.00 on g6.xlarge on-demand.*\$10.00 a month \$3.00 are left"
    ) as raised:
        check_dollars(3.0, limits, a_quote(cost=4.0))
    assert (raised.value.status, raised.value.code) == (429, "insufficient_quota")
    check_dollars(None, Limits(), a_quote(cost=1e6))


def test_a_job_without_a_quote_buys_nothing() -> None:
    check_dollars(0.0, Limits(dollars_a_month=1), None)


def test_a_price_that_is_not_known_is_refused_where_there_is_a_limit() -> None:
    bought = a_quote(cost=1.0)
    unpriced = bought.model_copy(update={"ladder": [bought.first.model_copy(update={"cost": None})]})
    check_dollars(None, Limits(), unpriced)
    with pytest.raises(ApiError, match=r"price of g6\.xlarge on-demand is not known"):
        check_dollars(5.0, Limits(dollars_a_month=5), unpriced)


def test_jobs_that_wait_or_run_count_and_others_do_not() -> None:
    states = ["queued", "running", "paused", "succeeded", "failed", "cancelled"]
    place, jobs = place_of(*(one(number, JobState(status)) for number, status in enumerate(states)))  # type: ignore[arg-type]
    check_jobs_at_once(Limits(), jobs, place)
    check_jobs_at_once(Limits(jobs_at_once=3), jobs, place)
    with pytest.raises(
        ApiError, match=r"2 jobs of the team wait or run \(ftjob-0, ftjob-1\), and its limit is 2"
    ) as raised:
        check_jobs_at_once(Limits(jobs_at_once=2), jobs, place)
    assert raised.value.status == 429
