"""Thousands of jobs of a team, and one that cannot be read."""

from typing import Any

import pytest

from api.cluster.cluster_jobs import ClusterJobs
from api.cluster.job_workflow import RECORD, new_workflow
from api.jobs.job_limits import SeenStates, check_jobs_at_once, dollars_left
from api.jobs.job_record import JobRecord
from api.teams.caller import Limits
from steps.common.storage import volumes
from tests.api.cluster.test_workflow_state import END, PLANNED, STARTED, job
from tests.support.stored_workflows import StoredWorkflows


def stored_job(number: int, phase: str) -> tuple[JobRecord, dict[str, Any]]:
    run = f"pets-store-{number:012d}"
    record = job(id=f"ftjob-{run}", run=run, quoted_dollars=1.0)
    body = new_workflow(record, {"recipe": "{}"}, 1)
    over = {} if phase == "Running" else {"finishedAt": END}
    body["status"] = {"phase": phase, "startedAt": END, **over, "nodes": {"plan": PLANNED}}
    return record, body


def test_the_limits_read_no_job_that_was_seen_to_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = [stored_job(number, "Failed") for number in range(300)]
    _, body = stored_job(300, "Running")
    stored = StoredWorkflows(*(one for _, one in ended), body)
    monkeypatch.setattr("api.cluster.cluster_jobs.WORKFLOWS", stored)
    place, limits = ClusterJobs("none"), Limits(jobs_at_once=2, dollars_a_month=10.0)

    def check() -> float | None:
        jobs, states = place.jobs("pets"), SeenStates(place)
        assert len(jobs) == 301
        check_jobs_at_once(limits, jobs, states)
        return dollars_left(limits, jobs, states, STARTED)

    assert check() == 9.0
    for record, _ in ended:  # what is read now is no longer there
        del stored.items[record.run]["status"], stored.items[record.run]["spec"]
        (volumes.run_folder(record.run) / "workflow.json").unlink()
    assert check() == 9.0


def test_a_job_that_cannot_be_read_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (good, body), (damaged, other), (later, newer) = (stored_job(number, "Running") for number in range(3))
    other["metadata"]["annotations"][RECORD] = "{}"
    newer["metadata"]["annotations"][RECORD] = later.model_copy(update={"schema_version": 99}).model_dump_json()
    monkeypatch.setattr("api.cluster.cluster_jobs.WORKFLOWS", StoredWorkflows(body, other, newer))
    place = ClusterJobs("none")
    assert place.jobs("pets") == [good]
    assert [place.job("pets", one.id) for one in (good, damaged, later)] == [good, None, None]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert damaged.run in caplog.text
    assert later.run in caplog.text
    assert place.state(later).status == "running"
