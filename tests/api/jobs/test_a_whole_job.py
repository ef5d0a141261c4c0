"""The documentation's script for OpenAI's API, run on this machine: upload, create, wait, events, stream. Real runs."""

import contextlib
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from api.jobs.job_record import JobRecord
from api.machine.job_queue import JobQueue
from api.machine.machine_jobs import MachineJobs
from recipes.recipe import Recipe
from steps.common.handover.resolved import Quote
from steps.common.storage import volumes
from tests.conftest import write_chats
from tests.docs.documents import ROOT, blocks
from tests.support.hub import Hub
from tests.support.running_api import running_api

RECIPE: dict[str, Any] = {
    "tune": {"method": "lora", "learning_rate": 0.01, "batch_tokens": 128, "evaluations": 2},
    "data": {"max_tokens": 64},
    "evaluate": {"sample_rows": 1, "answer_tokens": 8, "general": False},
    "gate": {"better_than_base": 0.0},
}
MODEL = "hf://org/tiny"
ASKED: Any = [{"role": "user", "content": "When are you open?"}]


PAGE = ROOT / "docs" / "moving-from-openai.md"


class HastyJobs(MachineJobs):
    """This machine's jobs, whose versions are watched for a second."""

    def quote(self, recipe: Recipe) -> Quote | None:
        return super().quote(_hasty(recipe))

    def create(self, job: JobRecord, recipe: Recipe) -> None:
        super().create(job, _hasty(recipe))


def _hasty(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"serve": recipe.serve.model_copy(update={"watch_seconds": 1.0})})


@dataclass
class Script:
    """What the script of the documentation has left, and a job that was refused before it."""

    client: openai.OpenAI
    job: FineTuningJob
    refused: FineTuningJob
    training: str
    said: str  # what it printed


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Script]:
    folder, hub = tmp_path_factory.mktemp("a-whole-job"), Hub(tiny_model)
    write_chats(folder / "chats.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(volumes.RUNS_SETTING, str(folder / "runs"))
        patch.setenv(volumes.WEIGHTS_SETTING, str(folder / "weights"))
        patch.setenv("HF_ENDPOINT", hub.url)
        with JobQueue() as queue, running_api(folder, jobs=HastyJobs(queue.wake)) as api:
            client = api.client("pets")
            with (folder / "chats.jsonl").open("rb") as rows:
                training = client.files.create(file=rows, purpose="fine-tune").id
            refused = client.fine_tuning.jobs.create(
                model=MODEL,
                training_file=training,
                seed=1,
                hyperparameters={"n_epochs": 1},
                extra_body={"recipe": {**RECIPE, "gate": {"better_than_base": 0.99}}},
            )
            left, said = run_script(api.url, api.key("pets"), folder / "chats.jsonl")
            refused = client.fine_tuning.jobs.retrieve(refused.id)
            yield Script(client, left["job"], refused, training, said)
            if any(model.id == "pets-help" for model in client.models.list()):
                client.models.delete("pets-help")
    hub.close()


def run_script(url: str, key: str, chats: Path) -> tuple[dict[str, Any], str]:
    """Run the documentation's script with other values, and return its variables and what it prints."""
    (block,) = [block for block in blocks("python") if block.file == PAGE]
    text = block.text
    own = {
        '"http://127.0.0.1:8350/v1"': repr(url),
        '"fl-..."': repr(key),
        '"chats.jsonl"': repr(str(chats)),
        '"smollm2-135m-instruct"': repr(MODEL),
        "time.sleep(10)": "time.sleep(0.5)",
        "stream=True": "stream=True, max_tokens=8, temperature=0",
        '{"tune": {"rank": 32}, "evaluate": {"questions": [{"ask": "When are you open?"}]}}': repr(RECIPE),
    }
    for documented, value in own.items():
        assert text.count(documented) == 1, documented
        text = text.replace(documented, value)
    left: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(text, str(block), "exec"), left)
    return left, out.getvalue()


@pytest.fixture(autouse=True)
def _its_volumes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    folder = next(tmp_path_factory.getbasetemp().glob("a-whole-job*"))
    monkeypatch.setenv(volumes.RUNS_SETTING, str(folder / "runs"))
    monkeypatch.setenv(volumes.WEIGHTS_SETTING, str(folder / "weights"))


def test_the_job_succeeds_and_its_model_has_a_name(script: Script) -> None:
    job = script.job
    assert job.error is None, job.error
    assert (job.status, job.fine_tuned_model) == ("succeeded", "pets-help")
    assert "The job has successfully completed: pets-help\n" in script.said
    assert job.finished_at and job.finished_at >= job.created_at
    assert job.trained_tokens and job.trained_tokens > 1000


def test_its_events_tell_the_way(script: Script) -> None:
    events = list(script.client.fine_tuning.jobs.list_events(script.job.id, limit=7))
    told = [event.message for event in reversed(events)]
    first = (
        f"Created fine-tuning job: {script.job.id}",
        "Quote: about ",
        "Fine-tuning job queued",
        "Fine-tuning job started",
    )
    for message, start in zip(told, first, strict=False):
        assert message.startswith(start), told[:4]
    for step in ("plan", "pull", "prepare", "tune", "evaluate", "register", "rollout"):
        assert f"Step {step}: started" in told
        assert any(message.startswith(f"Step {step}: done") for message in told)
    assert "Gate: passed" in told
    assert "Registered: version 1 of pets-help" in told
    assert "Rolled out: version 1 of pets-help" in told
    assert "The job has successfully completed: pets-help" in told
    losses: list[Any] = [event.data for event in events if event.type == "metrics"]
    assert sum("train_loss" in one for one in losses) > 10
    assert sum("valid_loss" in one for one in losses) == 3
    assert str(volumes.runs()) not in "".join(told)


def test_its_result_file_has_the_losses(script: Script) -> None:
    (result,) = script.job.result_files
    rows = list(csv.DictReader(io.StringIO(script.client.files.content(result).text)))
    assert sum(bool(row["valid_loss"]) for row in rows) == 3
    assert len([row for row in rows if row["train_loss"]]) > 10
    assert [file.id for file in script.client.files.list(purpose="fine-tune-results")].count(result) == 1
    (checkpoint,) = script.client.fine_tuning.jobs.checkpoints.list(script.job.id)
    assert checkpoint.step_number == max(int(row["step"]) for row in rows)


def test_a_refused_candidate_is_a_failed_job_with_the_reasons(script: Script) -> None:
    job = script.refused
    assert (job.status, job.fine_tuned_model) == ("failed", None)
    assert job.error and job.error.code == "candidate_refused"
    assert "the gate requires 99.0%" in job.error.message
    told = [event.message for event in script.client.fine_tuning.jobs.list_events(job.id, limit=100)]
    assert "Gate: refused" in told
    assert any(message.startswith("Gate: held-out loss") for message in told)
    assert job.result_files


def test_the_model_answers_whole_and_streamed_until_it_is_deleted(script: Script) -> None:
    client = script.client
    whole = client.chat.completions.create(model="pets-help", messages=ASKED, max_tokens=8, temperature=0)
    parts = list(
        client.chat.completions.create(model="pets-help", messages=ASKED, max_tokens=8, temperature=0, stream=True)
    )
    said = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert said == whole.choices[0].message.content
    assert script.said.endswith(said)
    assert client.models.retrieve("pets-help").owned_by == "pets"
    client.models.delete("pets-help")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="pets-help", messages=ASKED)


def test_rows_that_the_run_cannot_use_are_told_by_file_and_line(script: Script) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        script.client.fine_tuning.jobs.create(
            model=MODEL,
            training_file=script.training,
            method={"type": "dpo"},
            extra_body={"recipe": RECIPE},
        )
    assert raised.value.param == "training_file"
    assert script.training in str(raised.value)
    with pytest.raises(openai.BadRequestError) as raised:
        script.client.fine_tuning.jobs.create(
            model="hf://org/none", training_file=script.training, extra_body={"recipe": RECIPE}
        )
    assert raised.value.param == "model"
