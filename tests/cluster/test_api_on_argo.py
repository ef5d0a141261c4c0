"""A whole job of OpenAI's client on Argo's own controller: paused in its training, resumed, asked, deleted."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import NotFoundError, OpenAI
from openai.types.fine_tuning import FineTuningJob

from api.cluster.job_workflow import JOB_LABEL
from tests.support.api_server import client_of
from tests.support.argo_controller import in_every_namespace
from tests.support.commands import wait_for
from tests.support.installation import installed
from tests.support.kubectl import get, kubectl
from tests.support.small_store import small_store

SPACE = "fineline-api-argo"
RUN_SECONDS = 1800
ASKED: Any = [{"role": "user", "content": "When are you open?"}]
RECIPE: dict[str, Any] = {
    "data": {"max_tokens": 256},
    "tune": {"batch_tokens": 128, "learning_rate": 0.002},
    "evaluate": {"general": False, "sample_rows": 1, "answer_tokens": 16},
    "gate": {"better_than_base": 0.1},
}


@pytest.fixture(scope="module")
def address(images: None, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the API's Service, in a namespace whose runs a controller takes up."""
    if not in_every_namespace():
        pytest.skip("no Argo controller takes up the cluster's workflows")
    with installed(SPACE, tmp_path_factory.mktemp("overlay"), "api"):
        yield f"http://{get('service', 'fineline-api', SPACE)['spec']['clusterIP']}"


def client(address: str, team: str) -> OpenAI:
    command = ["fineline", "api", "keys", "make", team, "--json"]
    made = kubectl("exec", "-n", SPACE, "deployment/fineline-api", "--", *command).stdout
    return client_of(address, str(httpx2.Response(200, text=made).json()["key"]))


def test_a_job_is_paused_resumed_asked_and_its_model_deleted(address: str, tmp_path: Path) -> None:
    ours, theirs = client(address, "pets"), client(address, "cats")
    rows = Path(small_store(tmp_path)["data.train"])
    file = ours.files.create(file=rows, purpose="fine-tune")
    job = ours.fine_tuning.jobs.create(
        model="smollm2-135m-instruct:pypi",
        training_file=file.id,
        suffix="store",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
        extra_body={"recipe": RECIPE},
    )

    def now(*statuses: str) -> FineTuningJob | None:
        found = ours.fine_tuning.jobs.retrieve(job.id)
        assert found.status in statuses or found.status not in ("failed", "cancelled"), (found.error, told())
        return found if found.status in statuses else None

    def told() -> list[str]:
        return [event.message for event in ours.fine_tuning.jobs.list_events(job.id, limit=100)]

    def steps() -> list[int]:
        events = ours.fine_tuning.jobs.list_events(job.id, limit=100)
        found: list[Any] = [event.data for event in events if event.type == "metrics"]
        return [int(one["step"]) for one in found]

    wait_for(lambda: now("running") and max(steps(), default=0) >= 10, RUN_SECONDS)
    with pytest.raises(NotFoundError):
        theirs.fine_tuning.jobs.pause(job.id)
    ours.fine_tuning.jobs.pause(job.id)
    wait_for(lambda: now("paused"), 300)
    of_the_job = ["get", "workflows", "-n", SPACE, "-l", f"{JOB_LABEL}={job.id.removeprefix('ftjob-')}", "-o"]
    assert kubectl(*of_the_job, "jsonpath={.items[*].spec.shutdown}").stdout == "Stop"
    phase = [*of_the_job, "jsonpath={.items[*].status.phase}"]
    wait_for(lambda: kubectl(*phase).stdout == "Failed", 300)  # its exit handler gives the node back
    reached = max(steps())
    ours.fine_tuning.jobs.resume(job.id)
    done = wait_for(lambda: now("succeeded"), RUN_SECONDS)
    assert done.fine_tuned_model == "pets-store"
    names = kubectl(*of_the_job, "jsonpath={.items[*].metadata.name}").stdout.split()
    assert len(names) == 2
    tuning = next(name for name in names if name != job.id.removeprefix("ftjob-"))
    selected = f"workflows.argoproj.io/workflow={tuning},fineline.dev/step=tune"
    log = kubectl("logs", "-n", SPACE, "-l", selected, "-c", "main", "--tail=-1").stdout
    assert "resuming from the checkpoint of step" in log
    assert "Gate: passed" in told()
    assert max(steps()) > reached
    (result,) = done.result_files
    measured = list(csv.DictReader(io.StringIO(ours.files.content(result).text)))
    assert len({row["step"] for row in measured if row["train_loss"]}) > 10

    whole = ours.chat.completions.create(model="pets-store", messages=ASKED, max_tokens=16, temperature=0)
    parts = ours.chat.completions.create(model="pets-store", messages=ASKED, max_tokens=16, temperature=0, stream=True)
    said = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert said == whole.choices[0].message.content
    assert said
    with pytest.raises(NotFoundError):
        theirs.chat.completions.create(model="pets-store", messages=ASKED)
    assert [model.id for model in ours.models.list() if model.owned_by == "pets"] == ["pets-store"]
    assert not [model.id for model in theirs.models.list() if model.id == "pets-store"]

    assert ours.models.delete("pets-store").deleted
    with pytest.raises(NotFoundError):
        ours.models.retrieve("pets-store")
    with pytest.raises(NotFoundError):
        ours.chat.completions.create(model="pets-store", messages=ASKED)
    services = ["get", "service", "pets-store", "-n", SPACE, "--ignore-not-found", "-o", "name"]
    wait_for(lambda: kubectl(*services).stdout == "", 300)
