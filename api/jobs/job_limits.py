"""A team's limits on jobs: dollars in a calendar month, and jobs at once."""

import datetime
from collections.abc import Iterable
from typing import Protocol

from api.jobs.job_place import ENDED, JobState, Spent
from api.jobs.job_record import JobRecord
from api.openai_errors import ApiError
from api.teams.caller import Limits
from recipes.recipe import Recipe
from steps.common.handover.resolved import Quote
from steps.common.nodes.node_provider import buys

# A quote is rounded to cents, and a run compares the exact cost with its budget.
ROUNDING = 0.01  # US dollars


class JobStates(Protocol):
    """The part of a `JobPlace` that the limits read."""

    def known_to_have_ended(self, job: JobRecord) -> bool:
        """Return whether a job has ended, without reading its run; False: its state tells."""

    def state(self, job: JobRecord) -> JobState:
        """Return the state of a job."""

    def spent(self, job: JobRecord) -> Spent:
        """Return what the nodes of a job have cost so far."""


class SeenStates:
    """The states of jobs during one request, which asks for them several times. A job that has ended is read only once."""

    def __init__(self, place: JobStates) -> None:
        """Start without any."""
        self._place = place
        self._ended: dict[str, JobState] = {}

    def known_to_have_ended(self, job: JobRecord) -> bool:
        """Return whether a job has ended, without reading its run; False: its state tells."""
        return job.id in self._ended or self._place.known_to_have_ended(job)

    def has_ended(self, job: JobRecord) -> bool:
        """Return whether a job has ended."""
        return self.known_to_have_ended(job) or self.state(job).status in ENDED

    def state(self, job: JobRecord) -> JobState:
        """Return the state of a job."""
        if seen := self._ended.get(job.id):
            return seen
        state = self._place.state(job)
        if state.status in ENDED:
            self._ended[job.id] = state
        return state

    def spent(self, job: JobRecord) -> Spent:
        """Return what the nodes of a job have cost so far."""
        return self._place.spent(job)


def check_jobs_at_once(limits: Limits, jobs: Iterable[JobRecord], states: JobStates) -> None:
    """Refuse a job if the team already has as many queued and running jobs as it may. Paused jobs do not count.

    Raises:
        ApiError: the team has reached the limit.
    """
    most = limits.jobs_at_once
    if most is None:
        return
    # A job that is to pause or to end counts as paused or ended at once, so its state need not be read.
    wanted = (job for job in jobs if job.wanted == "run" and not states.known_to_have_ended(job))
    active = [job.id for job in wanted if states.state(job).status not in (*ENDED, "paused")]
    if len(active) >= most:
        raise ApiError(
            429,
            f"the team has {len(active)} queued and running jobs ({', '.join(active[:3])}), and its limit is {most}; wait for "
            "one to end, or pause or cancel one",
            code="jobs_at_once_exceeded",
        )


def dollars_left(limits: Limits, jobs: Iterable[JobRecord], states: JobStates, now: float) -> float | None:
    """Return how many dollars a team's jobs leave of its limit for this calendar month (UTC); None: no limit.

    Args:
        limits: of the team.
        jobs: of the team.
        states: of the jobs.
        now: Unix time.

    Returns:
        Less than 0 if jobs have cost more than they were quoted at, or if the limit was lowered.
    """
    if limits.dollars_a_month is None:
        return None
    counted = sum(counted_dollars(job, states) for job in jobs if _month(job.created_at) == _month(now))
    return round(limits.dollars_a_month - counted, 6)


def check_dollars(left: float | None, limits: Limits, quote: Quote | None) -> None:
    """Refuse a job whose quote exceeds what is left. A job without a quote buys nothing.

    Raises:
        ApiError: with the quote and what is left.
    """
    if left is None or quote is None or not buys(quote.provider):
        return
    cost, on = quote.first.cost, quote.first.name
    if cost is None:
        raise _no_price(on, limits)
    if 0 < left >= cost:
        return
    raise ApiError(
        429,
        f"the job is quoted at ${cost:.2f} on {on}, but the team has ${max(0.0, left):.2f} left of its "
        f"${limits.dollars_a_month:.2f} for this month (UTC); use less data or a smaller base model, or ask the administrator "
        "to raise the limit",
        code="insufficient_quota",
    )


def with_budget(recipe: Recipe, left: float | None, quote: Quote | None) -> Recipe:
    """Return a recipe whose run is stopped before it costs more than is left, since a quote is only an estimate.

    Args:
        recipe: as the caller wants it, perhaps with a smaller budget.
        left: dollars; None: the team has no limit.
        quote: of the recipe; without one, nothing is bought.
    """
    if left is None or quote is None or not buys(quote.provider):
        return recipe
    own, most = recipe.compute.max_cost, max(left, (quote.first.cost or 0.0) + ROUNDING)
    compute = recipe.compute.model_copy(update={"max_cost": min(own, most) if own else most})
    return recipe.model_copy(update={"compute": compute})


def check_not_overspent(left: float | None, limits: Limits) -> None:
    """Refuse to resume a job of a team whose jobs count for more than its limit.

    Raises:
        ApiError: with the limit.
    """
    if left is not None and left < 0:
        raise ApiError(
            429,
            f"by the quotes and the real costs of its jobs, the team is ${-left:.2f} above its "
            f"${limits.dollars_a_month:.2f} for this month (UTC); resume the job next month, or ask the administrator to raise "
            "the limit",
            code="insufficient_quota",
        )


def budget_to_resume(job: JobRecord, left: float | None, limits: Limits, states: JobStates, now: float) -> float | None:
    """Return how many dollars the nodes of a paused job may cost, those before the pause included; None: any number.

    Args:
        job: the job.
        left: dollars that the team's jobs, this one included, leave of its limit; None: the team has none.
        limits: of the team.
        states: of the jobs.
        now: Unix time.

    Raises:
        ApiError: the team is above its limit, or too little is left for the whole job as it is quoted, less what it has cost.
    """
    check_not_overspent(left, limits)
    quote = states.state(job).quote
    if left is None or (quote is None and not job.quote) or (quote is not None and not buys(quote.provider)):
        return None
    costs = [cost for cost in (job.quoted_dollars, quote.first.cost if quote else None) if cost is not None]
    if not costs:
        raise _no_price("its instance type", limits)
    spent = states.spent(job).dollars
    budget = left + (counted_dollars(job, states) if _month(job.created_at) == _month(now) else spent)
    if budget < max(costs) or budget <= spent:
        raise ApiError(
            429,
            f"the job is quoted at ${max(costs):.2f} and has cost ${spent:.2f}, but the team has ${left:.2f} left of its "
            f"${limits.dollars_a_month:.2f} for this month (UTC); resume the job next month, or ask the administrator to raise "
            "the limit",
            code="insufficient_quota",
        )
    return max(budget, max(costs) + ROUNDING)


def counted_dollars(job: JobRecord, states: JobStates) -> float:
    """Return how many dollars a job counts for: its quote, or what it has cost if that is more.

    A job that has ended counts for what it has cost.
    """
    spent = states.spent(job)
    return spent.dollars if spent.final else max(_quoted(job, states), spent.dollars)


def _quoted(job: JobRecord, states: JobStates) -> float:
    if job.quoted_dollars is not None:
        return job.quoted_dollars
    quote = states.state(job).quote
    return (quote.first.cost if quote else None) or 0.0


def _no_price(what: str, limits: Limits) -> ApiError:
    return ApiError(
        429,
        f"the price of {what} is not known, but the team has a limit of ${limits.dollars_a_month:.2f} a month; name instance "
        "types with known prices in recipe.compute.instance_types",
        code="insufficient_quota",
    )


def _month(time: float) -> tuple[int, int]:
    then = datetime.datetime.fromtimestamp(time, datetime.UTC)
    return then.year, then.month
