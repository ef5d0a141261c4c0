"""What a job of a cluster has cost, over all of its Workflows, and when it counts for that instead of its quote."""

from typing import Any

import pytest

from api.cluster.cluster_jobs import ClusterJobs
from api.cluster.job_archive import JobArchive
from api.cluster.job_workflow import name_of, record_of
from api.jobs.job_limits import counted_dollars
from api.jobs.job_place import Spent
from steps.common.nodes.ledger import BoughtNode, NodeOffer, Purchase
from steps.common.storage import volumes
from tests.api.cluster.test_workflow_state import PLANNED, STOP, job, node, workflow
from tests.support.stored_workflows import StoredWorkflows

OFFER = NodeOffer(instance_type="g6.xlarge", capacity="spot", gpus=1, price=1.0)


def bought(run: str, dollars: float, since: float = 0) -> None:
    """Save the purchase of a Workflow, as its exit handler does; without dollars, no node came."""
    machine = BoughtNode(
        name="n", instance_type="g6.xlarge", capacity="spot", price=dollars, since=since, until=since + 3600
    )
    file = volumes.run_folder(run) / "purchase.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(Purchase(offers=[OFFER], machines=[machine] if dollars else []).model_dump_json())


def test_the_nodes_of_every_workflow_of_a_job_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.cluster.cluster_jobs.WORKFLOWS", StoredWorkflows())
    place, record = ClusterJobs("none"), job(quoted_dollars=4.0)
    bought(record.run, 1.5)
    assert place.spent(record) == Spent(
        1.5, final=False
    )  # its Workflow is gone, and with it what else it may have bought
    assert counted_dollars(record, place) == 4.0
    for attempt in (2, 3):
        record = record.wanting("pause", attempt).wanting("run", attempt)
        bought(name_of(record.run, attempt), 2.0, since=5000.0 * attempt)
    assert place.spent(record).dollars == pytest.approx(5.5)
    assert counted_dollars(record, place) == pytest.approx(5.5)


def test_an_ended_job_whose_last_workflow_bought_nothing_counts_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.cluster.cluster_jobs.WORKFLOWS", StoredWorkflows())
    place = ClusterJobs("none")
    stored = workflow(main="Failed", phase="Failed")
    record = job(quoted_dollars=4.0).wanting("pause", 1).wanting("run", 2)
    bought(record.run, 1.5)
    JobArchive().save(record, stored)
    assert counted_dollars(record, place) == 1.5


ENDED: dict[str, Any] = {"main": "Failed", "phase": "Failed"}
SOLD_OUT, GOT = node("provision", "Failed", code=2), node("provision", "Succeeded")


@pytest.mark.parametrize(
    ("found", "saved", "counted"),
    [
        (workflow(node("plan", "Failed", code=2), node("provision", "Omitted"), **ENDED), None, 0.0),
        (workflow(PLANNED, SOLD_OUT, **ENDED), 0.0, 0.0),  # requested, but no node came
        (workflow(PLANNED, SOLD_OUT, node("release", "Succeeded"), **ENDED), None, 0.0),
        (workflow(PLANNED, SOLD_OUT, node("release", "Failed"), **ENDED), None, 4.0),
        (workflow(PLANNED, GOT, **ENDED), 1.5, 1.5),
        (workflow(PLANNED, GOT, **ENDED), None, 4.0),
        (workflow(PLANNED, GOT, main="Failed"), 1.5, 4.0),  # the exit handler still runs
        # Cancelled before it began, and as soon as it was; Argo has told when it began ever since the Workflow was taken up.
        (workflow(PLANNED, wanted="cancel", **STOP), None, 0.0),
        (workflow(PLANNED, GOT, wanted="cancel", **STOP), None, 4.0),
        (workflow(PLANNED, wanted="pause", **STOP), None, 4.0),
        (workflow(PLANNED, GOT, main="Failed", phase="Failed", wanted="pause", **STOP), 1.5, 4.0),
        (workflow(PLANNED), None, 4.0),
    ],
)
def test_a_job_that_has_ended_counts_for_what_it_has_cost(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], saved: float | None, counted: float
) -> None:
    monkeypatch.setattr("api.cluster.cluster_jobs.WORKFLOWS", StoredWorkflows(found))
    record = record_of(found).model_copy(update={"quoted_dollars": 4.0})
    if saved is not None:
        bought(record.run, saved)
    place = ClusterJobs("none")
    for _ in range(2):
        assert counted_dollars(record, place) == counted
