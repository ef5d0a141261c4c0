"""The result file, from reports of real runs and from losses alone."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from api.database.engine import open_database
from api.files.file_contents import FileContents, IncomingContent
from api.files.team_files import delete, find, listed
from api.jobs.job_place import JobState, Measurement
from api.jobs.step_metrics import csv_of, result_files
from api.openai_errors import ApiError
from api.teams.teams import make_team
from steps.common.runtime.errors import UnreachableError, UserError
from tests.support.golden import golden
from tests.support.stated_jobs import NOW, a_job, a_report


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with open_database(f"sqlite:///{tmp_path / 'api.sqlite'}")() as found:
        make_team(found, "pets")
        found.commit()
        yield found


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_it_has_openais_columns_and_every_loss_of_the_report() -> None:
    text = csv_of(JobState("succeeded", report=a_report()))
    assert text.splitlines()[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    tuning = json.loads(golden("version/report.json").read_text())["tuning"]
    rows = rows_of(text)
    assert [int(row["step"]) for row in rows] == list(range(49))
    losses = [(int(row["step"]), float(row["train_loss"])) for row in rows if row["train_loss"]]
    assert losses == [(step, pytest.approx(loss, rel=1e-5)) for step, loss in tuning["losses"]]
    held_out = [(int(row["step"]), float(row["valid_loss"])) for row in rows if row["valid_loss"]]
    assert held_out == [(step, pytest.approx(loss, rel=1e-5)) for step, loss in tuning["held_out"]]
    assert [(row["step"], row["valid_mean_token_accuracy"]) for row in rows if row["valid_mean_token_accuracy"]] == [
        ("48", "0.333333")
    ]
    assert not any(row["train_accuracy"] for row in rows)


def test_with_pairs_the_accuracy_is_the_share_that_is_preferred() -> None:
    report = a_report("schema_0_preferences")
    assert report.tuning and report.tuning.rewards
    found = [
        float(row["train_accuracy"])
        for row in rows_of(csv_of(JobState("succeeded", report=report)))
        if row["train_accuracy"]
    ]
    assert found == [pytest.approx(accuracy, rel=1e-5) for _, _, accuracy in report.tuning.rewards]


def test_a_job_that_failed_before_its_evaluation_has_what_was_measured() -> None:
    measured = (Measurement(0, NOW, None, 5.5), Measurement(1, NOW, 5.25), Measurement(2, NOW, float("nan"), 5.0))
    text = csv_of(JobState("failed", measurements=measured))
    assert text.splitlines()[1:] == ["0,,,5.5,", "1,5.25,,,", "2,,,5,"]


def test_it_is_stored_once_when_the_job_has_ended(session: Session) -> None:
    contents, job, report = FileContents(), a_job(), a_report()
    assert result_files(session, contents, job, JobState("running", report=report)) == []
    assert result_files(session, contents, job, JobState("cancelled")) == []
    ended = JobState("succeeded", report=report)
    (file_id,) = result_files(session, contents, job, ended)
    assert result_files(session, contents, job, ended) == [file_id]
    (file,) = listed(session, "pets", None, oldest_first=True)
    assert (file.id, file.filename, file.purpose) == (file_id, "step_metrics.csv", "fine-tune-results")
    with contents.open(find(session, "pets", file_id)) as content:
        assert content.read().decode() == csv_of(ended)
    assert result_files(session, contents, a_job(id="ftjob-other", run="other"), ended) != [file_id]


def test_one_that_was_deleted_is_not_made_again(session: Session) -> None:
    contents, job, ended = FileContents(), a_job(), JobState("succeeded", report=a_report())
    (file_id,) = result_files(session, contents, job, ended)
    delete(session, "pets", file_id)
    assert result_files(session, contents, job, ended) == []
    assert not listed(session, "pets", None, oldest_first=True)
    for act in (find, delete):
        with pytest.raises(ApiError, match="no such file"):
            act(session, "pets", file_id)


@pytest.mark.parametrize(
    "error", [ApiError(503, "the disk is full"), UserError("access denied"), UnreachableError("no answer")]
)
def test_a_job_can_be_read_while_it_cannot_be_stored(
    session: Session, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(FileContents):
        def send(self, content: IncomingContent) -> None:
            tried.append(content)
            raise error

    tried = list[IncomingContent]()
    job, ended, contents = a_job(), JobState("succeeded", report=a_report()), Failing()
    for _ in range(2):
        assert result_files(session, contents, job, ended) == []
    assert len(tried) == 1
    assert f"{job.id}: step_metrics.csv cannot be stored: {error}" in caplog.text
    assert len(result_files(session, FileContents(), job, ended)) == 1
