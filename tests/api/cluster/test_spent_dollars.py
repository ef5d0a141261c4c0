"""What a job of a cluster has cost, over all of its Workflows."""

import pytest

from api.cluster.cluster_jobs import ClusterJobs
from api.cluster.job_archive import JobArchive
from api.cluster.job_workflow import name_of
from api.jobs.job_limits import counted_dollars
from steps.common.nodes.ledger import BoughtNode, Purchase
from steps.common.storage import volumes
from tests.api.cluster.test_workflow_state import job, workflow


def bought(run: str, dollars: float) -> None:
    """Save the purchase of a Workflow, as its exit handler does."""
    node = BoughtNode(name="n", instance_type="g6.xlarge", capacity="spot", price=dollars, since=0, until=3600)
    file = volumes.run_folder(run) / "purchase.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(Purchase(offers=[], machines=[node]).model_dump_json())


def test_the_nodes_of_every_workflow_of_a_job_count() -> None:
    place, record = ClusterJobs("none"), job(quoted_dollars=4.0)
    bought(record.run, 1.5)
    assert place.spent(record) == 1.5
    assert counted_dollars(record, place) == 4.0
    for attempt in (2, 3):
        record = record.wanting("pause", attempt).wanting("run", attempt)
        bought(name_of(record.run, attempt), 2.0)
    assert place.spent(record) == pytest.approx(5.5)
    assert counted_dollars(record, place) == pytest.approx(5.5)


def test_an_ended_job_whose_last_workflow_bought_nothing_counts_for_the_others() -> None:
    place = ClusterJobs("none")
    stored = workflow(main="Failed", phase="Failed")
    record = job().wanting("pause", 1).wanting("run", 2)
    bought(record.run, 1.5)
    JobArchive().save(record, stored)
    assert place.spent(record) == 1.5
