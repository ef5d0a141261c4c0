"""The one checkpoint that a job has: its model."""

import pytest
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint as Theirs

from api.jobs.job_checkpoints import FineTuningJobCheckpoint, checkpoints_of
from api.jobs.job_place import JobState
from tests.support.stated_jobs import NOW, a_job, a_report


def test_a_job_that_has_succeeded_has_its_model() -> None:
    times = {"tune": (NOW + 1.0, NOW + 20.0)}
    (found,) = checkpoints_of(a_job(), JobState("succeeded", report=a_report(), times=times, finished=NOW + 90.0))
    assert set(FineTuningJobCheckpoint.model_fields) == set(Theirs.model_fields)
    theirs = Theirs.model_validate(found.model_dump())
    assert (theirs.fine_tuned_model_checkpoint, theirs.fine_tuning_job_id) == ("pets-shop", a_job().id)
    assert (theirs.step_number, theirs.metrics.step, theirs.created_at) == (48, 48, NOW + 20)
    assert theirs.metrics.train_loss == pytest.approx(5.1975069)
    assert theirs.metrics.valid_loss == pytest.approx(5.2010926)
    assert theirs.metrics.full_valid_loss == pytest.approx(5.2010936)
    assert theirs.metrics.full_valid_mean_token_accuracy == pytest.approx(1 / 3)


def test_with_patience_it_is_the_best_measurement() -> None:
    report = a_report()
    assert report.tuning
    kept = report.model_copy(update={"tuning": report.tuning.model_copy(update={"kept_step": 38})})
    (found,) = checkpoints_of(a_job(), JobState("succeeded", report=kept))
    assert (found.step_number, found.metrics.valid_loss) == (38, pytest.approx(5.2463158))


def test_no_other_job_has_one() -> None:
    for status in ("running", "paused", "failed", "cancelled"):
        assert checkpoints_of(a_job(), JobState(status, report=a_report())) == []
    assert checkpoints_of(a_job(), JobState("succeeded")) == []
