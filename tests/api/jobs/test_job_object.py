"""A job as the API returns it, from records and reports that real runs have written."""

from typing import Any

import pytest
from openai.types.fine_tuning import FineTuningJob as Theirs

from api.jobs.job_object import FineTuningJob, estimated_finish, job_object
from api.jobs.job_place import JobState, Measurement
from pipelines.shown.task_state import Phase, TaskState
from steps.common.nodes.ledger import OVER_LIMITS, REACHED
from tests.support.stated_jobs import NOW, a_job, a_quote, a_report


def the_object(state: JobState, **changes: Any) -> FineTuningJob:
    return job_object(a_job(**changes), state, [], NOW)


def ran(phase: Phase, exit_code: int = 0) -> tuple[TaskState, str]:
    return TaskState(phase=phase, exit_code=exit_code, seconds=3.0), ""


def succeeded(**changes: Any) -> JobState:
    done = {"report": a_report(), "version": 2, "trained_tokens": 5016, "finished": NOW + 90.5}
    return JobState("succeeded", **{**done, **changes})


def test_it_has_every_field_of_openais_with_their_types() -> None:
    for state in (
        JobState("queued"),
        JobState("running", quote=a_quote()),
        succeeded(),
        JobState("failed", message="x"),
    ):
        found = the_object(state, metadata={"a": "b"})
        assert set(Theirs.model_fields) <= set(FineTuningJob.model_fields)
        theirs = Theirs.model_validate(found.model_dump())
        assert (theirs.id, theirs.status, theirs.organization_id) == (found.id, state.status, "pets")
        assert theirs.method and theirs.method.supervised and theirs.method.supervised.hyperparameters
        assert theirs.method.supervised.hyperparameters.n_epochs == theirs.hyperparameters.n_epochs == 3
        assert theirs.hyperparameters.batch_size == "auto"


def test_the_model_has_its_name_only_once_the_job_has_succeeded() -> None:
    assert the_object(succeeded()).fine_tuned_model == "pets-shop"
    registered: dict[str, Any] = {"version": 2, "report": a_report()}
    for state in (
        JobState("running", **registered),  # it is rolled out
        JobState("failed", refused=True, message="rollout: the server does not answer alike", **registered),
        JobState("cancelled", **registered),
        JobState("running"),
        succeeded(version=None),
    ):
        assert the_object(state).fine_tuned_model is None


def test_times_and_tokens_are_there_once_it_has_ended() -> None:
    found = the_object(succeeded())
    assert (found.finished_at, found.trained_tokens, found.estimated_finish) == (NOW + 90, 5016, None)
    running = the_object(JobState("running", trained_tokens=12))
    assert (running.finished_at, running.trained_tokens) == (None, None)
    assert the_object(JobState("cancelled"), wanted_at=NOW + 5).finished_at == NOW + 5


def test_a_refused_candidate_has_the_gates_reasons() -> None:
    report = a_report().model_copy(update={"passed": False, "reasons": ["worse than version 3", "task: 1.0%"]})
    error = the_object(JobState("failed", refused=True, report=report, message="evaluate: refused: …")).error
    assert error and error.model_dump() == {
        "code": "candidate_refused",
        "message": "the gate refused the candidate: worse than version 3; task: 1.0%",
        "param": None,
    }
    verdict = JobState("failed", refused=True, verdict="refused: worse; much worse", message="")
    told = the_object(verdict).error
    assert told and told.message == "the candidate was refused: worse; much worse"


def test_a_candidate_that_the_rollout_refuses_has_its_reason() -> None:
    state = JobState("failed", refused=True, report=a_report(), version=3, message="rollout: 12% of the answers failed")
    error = the_object(state).error
    assert error and (error.code, error.message) == (
        "candidate_refused",
        "the candidate was refused: rollout: 12% of the answers failed",
    )


@pytest.mark.parametrize(
    ("exit_code", "code"), [(2, "invalid_job"), (75, "unreachable"), (1, "server_error"), (137, "server_error")]
)
def test_the_code_is_that_of_the_step_that_failed(exit_code: int, code: str) -> None:
    tasks = {"plan": ran(Phase.SUCCEEDED), "prepare": ran(Phase.FAILED, exit_code), "tune": ran(Phase.OMITTED)}
    error = the_object(JobState("failed", message="prepare: no", tasks=tasks)).error
    assert error and error.code == code


@pytest.mark.parametrize(
    "message",
    [
        f"tune: {REACHED} after step 3 of 9; a checkpoint is saved: raise the limit and run the same recipe again",
        f"{OVER_LIMITS} (max_cost 3, max_hours 0; 0: none) with g6.xlarge after 1h00m, $3.10; its checkpoint is kept",
    ],
)
def test_a_job_that_has_reached_its_budget_says_so(message: str) -> None:
    for exit_code in (2, 75):
        tasks = {"plan": ran(Phase.SUCCEEDED), "tune": ran(Phase.FAILED, exit_code)}
        error = the_object(JobState("failed", message=message, tasks=tasks)).error
        assert error and (error.code, error.message) == ("budget_exhausted", message)
    refused = JobState(
        "failed", message="plan: compute.max_cost: the limit is $6", tasks={"plan": ran(Phase.FAILED, 2)}
    )
    other = the_object(refused).error
    assert other and other.code == "invalid_job"


def test_an_error_names_files_by_their_ids_and_no_path_of_the_server() -> None:
    training, held_out = f"file-{'a' * 16}{'1' * 16}", f"file-{'b' * 16}{'2' * 16}"
    ids = {"training_file": training, "validation_file": held_out, "files": [training, held_out]}
    for name, param, place in (
        (held_out, "validation_file", "/var/lib/fineline/runs/data/bbbbbbbbbbbbbbbb/uploaded.jsonl.gz"),
        (training, "training_file", "s3://bucket/runs/aaaaaaaaaaaaaaaa/uploaded.csv"),
    ):
        error = the_object(JobState("failed", message=f"prepare: {place}:17: message 2 has no content"), **ids).error
        assert error
        assert (error.message, error.param) == (f"prepare: {name}:17: message 2 has no content", param)
    others = the_object(JobState("failed", message="x: /runs/data/cccccccccccccccc/uploaded.json: no"), **ids).error
    assert others and (others.message, others.param) == ("x: an uploaded file: no", None)


def minutes(**legs: float) -> dict[str, Any]:
    first = a_quote().first.model_copy(update={"minutes": legs})
    return {"quote": a_quote(ladder=[first], steps=100)}


def test_the_finish_is_estimated_from_the_quote() -> None:
    legs = minutes(pull=1, load=1, tune=10, evaluate=2)
    assert estimated_finish(JobState("running", **legs), NOW) == NOW + 14 * 60
    tasks = {"pull": ran(Phase.SUCCEEDED), "tune": ran(Phase.RUNNING)}
    times = {"pull": (NOW - 400.0, NOW - 300.0), "tune": (NOW - 240.0, 0.0)}
    begun = JobState("running", tasks=tasks, times=times, **legs)
    assert estimated_finish(begun, NOW) == NOW + (11 - 4 + 2) * 60
    for state in (JobState("queued", **legs), JobState("paused", **legs), JobState("running"), succeeded(**legs)):
        assert estimated_finish(state, NOW) is None


def test_the_finish_follows_the_pace_of_the_training() -> None:
    times = {"tune": (NOW - 100.0, 0.0)}
    measured = tuple(Measurement(step, NOW - 90.0 + 2 * step, train_loss=1.0) for step in range(1, 41))
    state = JobState(
        "running", tasks={"tune": ran(Phase.RUNNING)}, times=times, measurements=measured, **minutes(tune=1, evaluate=1)
    )
    assert estimated_finish(state, NOW) == NOW + 60 * 2 - 10 + 60
