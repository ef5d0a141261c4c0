"""Dollars a month and jobs at once."""

import datetime
from typing import Any

import pytest

from api.jobs.job_limits import (
    SeenStates,
    budget_to_resume,
    check_dollars,
    check_jobs_at_once,
    check_not_overspent,
    counted_dollars,
    dollars_left,
    with_budget,
)
from api.jobs.job_place import JobState
from api.jobs.job_record import JobRecord
from api.openai_errors import ApiError
from api.teams.caller import Limits
from recipes.recipe import Recipe
from tests.support.stated_jobs import NOW, StatedJobs, a_job, a_quote

MONTH = int(datetime.datetime(2026, 9, 1, tzinfo=datetime.UTC).timestamp())


def place_of(*jobs: tuple[JobRecord, JobState]) -> tuple[StatedJobs, list[JobRecord]]:
    place = StatedJobs()
    for job, state in jobs:
        place.kept[job.id], place.states[job.id] = job, state
    return place, [job for job, _ in jobs]


def one(number: int, state: JobState | None = None, **changes: Any) -> tuple[JobRecord, JobState]:
    return a_job(id=f"ftjob-{number}", run=str(number), **changes), state or JobState("running", started=1.0)


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


def test_a_job_that_ended_before_it_had_a_node_costs_nothing() -> None:
    place, jobs = place_of(
        one(1, JobState("cancelled", started=1.0), quoted_dollars=3.0, wanted="cancel"),
        one(2, JobState("cancelled", started=1.0, node="n"), quoted_dollars=4.0, wanted="cancel"),
        one(3, JobState("running", started=1.0), quoted_dollars=5.0, wanted="cancel"),
        one(4, JobState("failed", started=1.0), quoted_dollars=6.0),
    )
    assert [counted_dollars(job, place) for job in jobs] == [0.0, 4.0, 5.0, 0.0]


def test_a_job_that_costs_more_than_its_quote_counts_for_what_it_costs() -> None:
    place, jobs = place_of(
        one(1, JobState("running", started=1.0), created_at=NOW, quoted_dollars=2.0),
        one(2, JobState("paused", started=1.0), created_at=NOW, quoted_dollars=2.0),
        one(3, JobState("cancelled", started=1.0), created_at=NOW, quoted_dollars=2.0, wanted="cancel"),
    )
    place.costs = {"ftjob-1": 3.5, "ftjob-2": 0.5, "ftjob-3": 5.0}
    limits = Limits(dollars_a_month=10)
    left = dollars_left(limits, jobs, place, NOW)
    assert left == pytest.approx(10 - 3.5 - 2.0 - 5.0)
    with pytest.raises(ApiError, match=r"the team is \$0\.50 above its \$10\.00 for this month") as raised:
        check_not_overspent(left, limits)
    assert (raised.value.status, raised.value.code) == (429, "insufficient_quota")
    check_not_overspent(0.0, limits)
    check_not_overspent(None, Limits())


@pytest.mark.parametrize(
    ("own", "left", "cost", "budget"),
    [
        (0, 6.0, 4.0, 6.0),
        (5, 6.0, 4.0, 5.0),
        (50, 6.0, 4.0, 6.0),
        (0, None, 4.0, 0.0),
        (50, None, 4.0, 50.0),
        (0, 6.0, None, 0.0),
        (0, 2.0, 2.0, 2.01),  # quoted at 2.004
        (50, 2.0, 2.0, 2.01),
        (2, 2.0, 2.0, 2.0),
    ],
)
def test_a_run_is_stopped_before_it_costs_more_than_is_left(
    own: float, left: float | None, cost: float | None, budget: float
) -> None:
    recipe = Recipe.model_validate({"name": "pets-a", "data": {"train": "/rows.jsonl"}, "compute": {"max_cost": own}})
    found = with_budget(recipe, left, a_quote(cost))
    assert found.compute.max_cost == budget
    assert found.model_copy(update={"compute": recipe.compute}) == recipe
    assert with_budget(recipe, left, None) == recipe


def test_a_paused_job_may_go_on_to_cost_what_it_counts_for_and_what_is_left() -> None:
    limits, quote = Limits(dollars_a_month=10), a_quote(cost=4.0)
    running = JobState("running", started=1.0, quote=quote)
    paused, other = (
        one(1, JobState("paused", quote=quote), created_at=NOW, quoted_dollars=4.0),
        one(2, running, created_at=NOW, quoted_dollars=5.0),
    )
    place, jobs = place_of(paused, other)
    job = jobs[0]

    def budget(limits: Limits, now: float = NOW) -> float | None:
        left = dollars_left(limits, jobs, place, now)
        return budget_to_resume(job, left, limits, place, now)

    assert budget(Limits()) is None  # so its recipe alone decides
    assert budget(limits) == pytest.approx(5.0)
    assert budget(Limits(dollars_a_month=9)) == pytest.approx(4.01)
    place.costs[job.id] = 4.5
    assert budget(limits) == pytest.approx(5.0)
    for most in (9.5, 9.0):  # nothing is left, or less
        with pytest.raises(ApiError, match=r"the limit$"):
            budget(Limits(dollars_a_month=most))

    next_month = NOW + 40 * 86400
    place.costs[job.id] = 3.0
    assert budget(limits, next_month) == pytest.approx(13.0)
    with pytest.raises(ApiError, match=r"quoted at \$4.00 and has cost \$3.00.*\$0.50 left") as raised:
        budget(Limits(dollars_a_month=0.5), next_month)
    assert (raised.value.status, raised.value.code) == (429, "insufficient_quota")


def test_a_paused_job_without_a_price_or_a_purchase() -> None:
    limits, bought = Limits(dollars_a_month=10), a_quote(cost=1.0)
    unpriced = bought.model_copy(update={"ladder": [bought.first.model_copy(update={"cost": None})]})
    place, jobs = place_of(
        one(1, JobState("paused", quote=a_quote()), quote="here"),
        one(2, JobState("paused")),
        one(3, JobState("paused", quote=unpriced), quote="in words"),
        one(4, JobState("paused"), quote="in words"),
    )
    assert [budget_to_resume(job, 5.0, limits, place, NOW) for job in jobs[:2]] == [None, None]
    for job in jobs[2:]:
        with pytest.raises(ApiError, match="is not known"):
            budget_to_resume(job, 5.0, limits, place, NOW)


def test_nothing_is_bought_once_nothing_is_left() -> None:
    for left in (0.0, -1.0):
        with pytest.raises(ApiError, match=r"\$0.00 left"):  # a budget of 0 would be no limit
            check_dollars(left, Limits(dollars_a_month=1), a_quote(cost=0.0))


def test_a_job_beyond_the_dollars_is_refused_with_its_quote() -> None:
    limits = Limits(dollars_a_month=10)
    check_dollars(0.3, limits, a_quote(cost=0.1 + 0.2 - 1e-9))
    check_dollars(0.0, limits, a_quote())  # on this machine, where nothing is bought
    with pytest.raises(
        ApiError, match=r"quoted at \$4.00 on g6.xlarge on-demand.*\$3.00 left of its \$10.00"
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
        ApiError, match=r"the team has 2 queued and running jobs \(ftjob-0, ftjob-1\), and its limit is 2"
    ) as raised:
        check_jobs_at_once(Limits(jobs_at_once=2), jobs, place)
    assert raised.value.status == 429


class CountedJobs(StatedJobs):
    """Jobs that count how often the state of each is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def state(self, job: JobRecord) -> JobState:
        self.read.append(job.run)
        return super().state(job)


def test_the_state_of_a_job_is_read_only_where_it_can_matter_and_of_an_ended_one_once() -> None:
    place = CountedJobs()
    for number, (status, wanted) in enumerate((("failed", "run"), ("running", "run"), ("paused", "pause"))):
        job, state = one(number, JobState(status), wanted=wanted)  # type: ignore[arg-type]
        place.kept[job.id], place.states[job.id] = job, state
    states, jobs = SeenStates(place), list(place.kept.values())
    for _ in range(2):
        check_jobs_at_once(Limits(jobs_at_once=2), jobs, states)
    assert sorted(place.read) == ["0", "1", "1"]
    place.say("ftjob-1", "succeeded")
    assert [states.state(job).status for job in jobs] == ["failed", "succeeded", "paused"]
