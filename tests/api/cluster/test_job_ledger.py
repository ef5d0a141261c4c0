"""The limits of a job hold over all of its Workflows, and a job that is resumed is not refused by its own plan."""

from pathlib import Path
from typing import Any

import pytest

from api.cluster.cluster_jobs import ClusterJobs
from api.cluster.cluster_quote import _quote
from api.cluster.job_workflow import name_of, new_workflow, parameters_of
from api.jobs.job_record import JobRecord
from api.openai_errors import ApiError
from pipelines.workflows.parameters import as_text
from recipes.reader import load
from recipes.recipe import Recipe
from steps.common.handover.resolved import Hardware, Quote, Rung
from steps.common.nodes import ledger_file
from steps.common.nodes.ledger import RunningNode
from steps.common.runtime.errors import UserError
from tests.api.cluster.test_workflow_state import STARTED, job, node
from tests.support.clock import Clock
from tests.support.stated_jobs import a_quote
from tests.support.stored_workflows import StoredWorkflows

HOUR = 3600.0


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = STARTED
    return clock


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> StoredWorkflows:
    found = StoredWorkflows()
    monkeypatch.setattr("api.cluster.cluster_jobs.WORKFLOWS", found)
    return found


@pytest.fixture
def place(stored: StoredWorkflows, clock: Clock) -> ClusterJobs:
    return ClusterJobs("none", clock)


def a_recipe(**compute: Any) -> Recipe:
    return load("pet-store", {"name": "pets-store", **{f"compute.{key}": str(value) for key, value in compute.items()}})


def begun(stored: StoredWorkflows, recipe: Recipe, rung: Rung, *, since: float = STARTED) -> JobRecord:
    """Store a job whose first Workflow has got a node, and return the job."""
    record = job(quoted_dollars=rung.cost)
    body = new_workflow(record, {"recipe": as_text(recipe), "name": record.name}, 1)
    got = Hardware(rung=rung, node="the-node", since=since)
    nodes = [node("provision", "Succeeded", outputs={"hardware": got.model_dump_json()}), node("tune", "Running")]
    body["status"] = {
        "phase": "Running",
        "startedAt": "2026-11-29T20:00:00Z",
        "nodes": {one["id"]: one for one in nodes},
    }
    stored.create(body)
    return record


def given_back(run: str, recipe: Recipe, quote: Quote, since: float, until: float) -> None:
    """Save what a Workflow has bought, as its exit handler does; Karpenter's claim has another name than its node."""
    first = quote.first
    bought = ledger_file.purchase_of(run, recipe.compute, quote.ladder)
    found = bought.updated([RunningNode("the-claim", first.instance_type, first.capacity, since)], since)
    ledger_file.save(run, found, until)


def paused(place: ClusterJobs, record: JobRecord) -> JobRecord:
    place.pause(record)
    found = place.job(record.team, record.id)
    assert found
    return found


def resumed(place: ClusterJobs, stored: StoredWorkflows, record: JobRecord, budget: float | None = None) -> Recipe:
    """Resume a job, and return the recipe of its second Workflow."""
    place.resume(record, budget)
    return load(parameters_of(stored.items[name_of(record.run, 2)])["recipe"])


def test_the_plan_of_a_resumed_job_accepts_it_with_the_budget_that_it_has_left(
    stored: StoredWorkflows,
    place: ClusterJobs,
    clock: Clock,
    tiny_model: Path,
    chats: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FINELINE_COMPUTE", "compute-class")
    changes = {"model": tiny_model.as_uri(), "data.train": str(chats), "data.max_tokens": "64"}
    free = load("pet-store", {"name": "pets-store", **changes})
    quote = Quote.model_validate_json(_quote(as_text(free)))
    price, cost = quote.first.price_at_most or quote.first.price, quote.first.cost
    assert price
    assert cost
    budget = 1.25 * cost
    recipe = free.model_copy(update={"compute": free.compute.model_copy(update={"max_cost": budget})})
    record = begun(stored, recipe, quote.first)
    # Half of the quote is spent, which leaves less than the whole quote.
    clock.now += 0.5 * cost / price * HOUR
    record = paused(place, record)
    given_back(record.run, recipe, quote, STARTED, clock.now)
    again = resumed(place, stored, record)
    assert again == recipe
    assert Quote.model_validate_json(_quote(as_text(again))).first.cost == cost
    less = recipe.compute.model_copy(update={"max_cost": budget - place.spent(record).dollars})
    with pytest.raises(UserError, match=r"compute\.max_cost: the limit is"):
        _quote(as_text(recipe.model_copy(update={"compute": less})))

    second = ledger_file.purchase_of(name_of(record.run, 2), again.compute, quote.ladder)
    first = quote.first
    running = second.updated([RunningNode("b", first.instance_type, first.capacity, clock.now)], clock.now)
    assert running.until(clock.now) == pytest.approx(clock.now + 0.75 * cost / price * HOUR)


@pytest.fixture
def quote() -> Quote:
    """Of 0.8 dollars an hour."""
    return a_quote(cost=8.0)


def test_a_job_that_is_resumed_before_its_node_is_given_back_pays_for_it_once(
    stored: StoredWorkflows, place: ClusterJobs, clock: Clock, quote: Quote
) -> None:
    recipe = a_recipe(max_cost=10)
    record = begun(stored, recipe, quote.first)
    clock.now += HOUR
    record = paused(place, record)
    assert resumed(place, stored, record) == recipe
    latest = place.job(record.team, record.id)
    assert latest
    assert place.spent(latest).dollars == pytest.approx(0.8)
    given_back(record.run, recipe, quote, STARTED, STARTED + 1.5 * HOUR)
    assert place.spent(latest).dollars == pytest.approx(1.2)
    given_back(name_of(record.run, 2), recipe, quote, STARTED + 2 * HOUR, STARTED + 3 * HOUR)
    assert place.spent(latest).dollars == pytest.approx(2.0)


def test_what_the_team_has_left_bounds_a_job_that_is_resumed(
    stored: StoredWorkflows, place: ClusterJobs, quote: Quote
) -> None:
    record = paused(place, begun(stored, a_recipe(), quote.first))
    assert resumed(place, stored, record, 9.0).compute.max_cost == 9.0


@pytest.mark.parametrize(("limits", "budget"), [({"max_cost": 1.6}, None), ({}, 1.5), ({"max_hours": 2}, 100.0)])
def test_a_job_that_has_reached_its_limits_stays_paused(
    stored: StoredWorkflows,
    place: ClusterJobs,
    clock: Clock,
    quote: Quote,
    limits: dict[str, float],
    budget: float | None,
) -> None:
    record = begun(stored, a_recipe(**limits), quote.first)
    clock.now += 2 * HOUR
    record = paused(place, record)
    with pytest.raises(ApiError, match="create a job with a higher limit") as raised:
        place.resume(record, budget)
    assert (raised.value.status, raised.value.code) == (400, "budget_exhausted")
    assert place.state(record).status == "paused"
    assert len(stored.items) == 1
