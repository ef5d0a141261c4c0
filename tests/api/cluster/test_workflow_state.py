"""What a job's Workflow, as Argo stores it, says about the job."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from api.cluster.job_archive import JobArchive, kept_of
from api.cluster.job_workflow import name_of, new_workflow, parameters_of, record_of, selector
from api.cluster.workflow_state import job_state, tuning_folder
from api.jobs.job_record import JobRecord, Wanted
from pipelines.workflows.parameters import as_text
from recipes.reader import load
from steps.common.kubernetes.workflow_objects import STOPPED
from steps.common.storage import volumes
from steps.plan.step import PlanInput, resolve

START, END = "2026-11-29T20:00:00Z", "2026-11-29T20:10:00Z"
STARTED, ENDED = 1795982400.0, 1795983000.0


def job(**changes: Any) -> JobRecord:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}}
    content = {
        "id": "ftjob-pets-store-0123456789ab",
        "run": "pets-store-0123456789ab",
        "team": "pets",
        "created_at": int(STARTED),
        "model": "smollm2-135m-instruct:pypi",
        "name": "pets-store",
        "training_file": "file-1",
        "method": method,
        "seed": 1,
    }
    return JobRecord.model_validate(content | changes)


def node(name: str, phase: str, *, code: int = 0, message: str = "", outputs: dict[str, str] | None = None) -> Any:
    over = {} if phase in ("Pending", "Running") else {"finishedAt": END}
    parameters = [{"name": key, "value": value} for key, value in (outputs or {}).items()]
    found = {"parameters": parameters, **({"exitCode": str(code)} if code else {})}
    return {
        **{"id": name, "name": name, "displayName": name, "type": "Retry", "phase": phase, "startedAt": START},
        **{"message": message, "outputs": found, "inputs": {"parameters": [{"name": "resolved", "value": "{}"}]}},
        **over,
    }


def workflow(
    *nodes: dict[str, Any], main: str = "", phase: str = "Running", wanted: Wanted = "run", **spec: Any
) -> dict[str, Any]:
    record = job().wanting(wanted, STARTED + 60)
    body = new_workflow(record, {"recipe": "{}", "name": record.name}, 1)
    name = body["metadata"]["name"]
    body["metadata"] |= {"creationTimestamp": START, "managedFields": ["x"]}
    body["spec"] |= spec
    top = {"id": name, "name": name, "displayName": name, "type": "DAG", "phase": main or phase, "startedAt": START}
    if main:
        top["finishedAt"] = END
    every = {one["id"]: one for one in [top, *nodes]}
    body["status"] = {"phase": phase, "startedAt": START, "nodes": every, "storedTemplates": {"a": {"b": "c"}}}
    return body


def status(found: dict[str, Any]) -> str:
    return job_state(record_of(found), found).status


PLANNED = node("plan", "Succeeded")
STOP: dict[str, Any] = {"shutdown": "Stop"}
INTERRUPTED = node("tune", "Failed", code=75, message="stopped after step 3 of 9; a checkpoint is saved")
REFUSED = node("evaluate", "Failed", code=3, message="refused: worse than the base")


def test_a_run_that_no_controller_has_taken_up_is_queued() -> None:
    found = new_workflow(job(), {"recipe": "{}"}, 1)
    state = job_state(job(), found)
    assert (state.status, state.started, state.finished) == ("queued", 0.0, 0.0)
    assert state.tasks["plan"][0].phase == "Pending"


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ("queued", workflow(phase="Pending")),
        ("validating_files", workflow(node("plan", "Running"))),
        ("running", workflow(PLANNED)),
        ("running", workflow(PLANNED, node("tune", "Running"))),
        ("paused", workflow(PLANNED, node("tune", "Running"), wanted="pause", **STOP)),
        ("cancelled", workflow(PLANNED, node("tune", "Running"), wanted="cancel", **STOP)),
        ("paused", workflow(PLANNED, INTERRUPTED, main="Failed", wanted="pause", **STOP)),
        ("paused", workflow(PLANNED, INTERRUPTED, main="Failed", phase="Failed", wanted="pause", **STOP)),
        ("cancelled", workflow(PLANNED, INTERRUPTED, main="Failed", phase="Failed", wanted="cancel", **STOP)),
        # `fineline stop`, or a person in Argo's UI.
        ("cancelled", workflow(PLANNED, INTERRUPTED, main="Failed", phase="Failed", **STOP)),
        ("failed", workflow(PLANNED, INTERRUPTED, main="Failed", phase="Failed")),
        ("failed", workflow(PLANNED, REFUSED, main="Failed", wanted="pause", **STOP)),
        # The exit handler, which gives the node back, still runs; or it failed.
        ("succeeded", workflow(PLANNED, main="Succeeded")),
        ("succeeded", workflow(PLANNED, main="Succeeded", phase="Failed")),
        # The wish came too late.
        ("succeeded", workflow(PLANNED, main="Succeeded", phase="Succeeded", wanted="cancel", **STOP)),
    ],
)
def test_the_state_of_a_job(expected: str, found: dict[str, Any]) -> None:
    assert status(found) == expected


def test_a_refused_candidate_fails_with_its_reason() -> None:
    found = workflow(PLANNED, REFUSED, main="Failed", phase="Failed")
    state = job_state(record_of(found), found)
    assert (state.status, state.refused) == ("failed", True)
    assert state.message == "evaluate: refused: worse than the base"
    assert (state.started, state.finished) == (STARTED, ENDED)
    assert state.times["evaluate"] == (STARTED, ENDED)


def test_a_run_that_the_reaper_stopped_has_failed_with_its_reason() -> None:
    found = workflow(PLANNED, INTERRUPTED, main="Failed", phase="Failed", **STOP)
    found["metadata"]["annotations"][STOPPED] = "max_cost was reached"
    state = job_state(record_of(found), found)
    assert (state.status, state.refused, state.message) == ("failed", False, "max_cost was reached")


def test_what_the_steps_report() -> None:
    nodes = [
        PLANNED,
        node("evaluate", "Succeeded", outputs={"verdict": "passed: better", "report": "/nowhere/report.json"}),
        node("register", "Succeeded", outputs={"version": "3"}),
        node("rollout", "Succeeded", outputs={"url": "http://pets-store.ml.svc/v1"}),
    ]
    found = workflow(*nodes, main="Succeeded")
    state = job_state(record_of(found), found)
    assert (state.verdict, state.version, state.url) == ("passed: better", 3, "http://pets-store.ml.svc/v1")
    assert (state.report, state.quote, state.node) == (None, None, "")


def test_a_large_status_which_argo_compresses_reads_the_same() -> None:
    found = workflow(PLANNED, REFUSED, main="Failed", phase="Failed")
    plain = job_state(record_of(found), found)
    nodes = json.dumps(found["status"].pop("nodes")).encode()
    found["status"]["compressedNodes"] = base64.b64encode(gzip.compress(nodes)).decode()
    assert job_state(record_of(found), found) == plain


def test_the_losses_of_a_training_that_runs_are_those_of_its_journal(tiny_model: Path, chats: Path) -> None:
    recipe = load("pet-store", {"model": tiny_model.as_uri(), "data.train": str(chats), "data.max_tokens": "64"})
    resolved = resolve(PlanInput(recipe=as_text(recipe)))
    planned = node("plan", "Succeeded", outputs={"resolved": resolved.model_dump_json()})
    prepared = node("prepare", "Succeeded", outputs={"digest": "a" * 64})
    before = workflow(planned, prepared)
    folder = tuning_folder(before)
    assert folder is not None
    assert folder.parent == volumes.runs() / "tunings"
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True)
    lines = [{"step": 1, "time": STARTED - 9, "loss": 3.0}, {"step": 2, "time": STARTED + 9, "loss": 2.0}]
    (partial / "steps.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert job_state(record_of(before), before).measurements == ()
    found = workflow(planned, prepared, node("tune", "Running"))
    state = job_state(record_of(found), found)
    # The first step is of the Workflow before this one.
    assert [(one.step, one.time, one.train_loss) for one in state.measurements] == [
        (1, STARTED, 3.0),
        (2, STARTED + 9, 2.0),
    ]
    assert state.quote == resolved.quote


def test_the_folder_of_a_tuning_is_not_known_before_its_rows_are_prepared() -> None:
    assert tuning_folder(workflow(PLANNED)) is None


def test_an_archived_job_has_the_same_state(tmp_path: Any) -> None:
    found = workflow(PLANNED, REFUSED, main="Failed", phase="Failed")
    archive, record = JobArchive(), record_of(found)
    assert archive.record("pets", record.run) is None
    archive.save(record, found)
    kept = archive.workflow(record.run)
    assert kept == kept_of(found)
    assert job_state(record, kept) == job_state(record, found)
    assert not {"inputs", "storedTemplates", "managedFields"} & set(json.dumps(kept).split('"'))
    assert archive.record("pets", record.run) == record
    assert archive.record("cats", record.run) is None
    assert archive.records("pets") == [record]
    assert archive.records("cats") == []
    archive.save_record(record.wanting("cancel", ENDED))
    assert [one.wanted for one in archive.records("pets")] == ["cancel"]
    assert (volumes.run_folder(record.run) / "job.json").exists()


def test_the_workflows_of_a_job_have_its_record_and_labels_that_find_it() -> None:
    record = job()
    first, third = (new_workflow(record, {"recipe": "{}", "name": record.name}, number) for number in (1, 3))
    assert (first["metadata"]["name"], third["metadata"]["name"]) == (record.run, f"{record.run}-r3")
    assert record_of(first) == record_of(third) == record
    assert parameters_of(third) == {"recipe": "{}", "name": "pets-store"}
    assert "generateName" not in first["metadata"]
    wanted = dict(one.split("=") for one in selector("pets", record.run).split(",") if "=" in one)
    assert wanted.items() <= first["metadata"]["labels"].items()
    assert first["spec"]["workflowTemplateRef"] == {"name": "finetune"}
    run = f"{'a' * 50}-0123456789ab"
    assert [len(name_of(run, attempt)) for attempt in (1, 2, 10)] == [63, 63, 63]
    assert name_of(run, 2).endswith("a-0123456789ab-r2")
