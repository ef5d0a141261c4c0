"""The API's own pod: made by the component, asked through its Service, killed, and asked again."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from openai import NotFoundError, OpenAI

from tests.conftest import write_chats
from tests.support.api_server import client_of
from tests.support.commands import wait_for
from tests.support.installation import installed
from tests.support.kubectl import get, kubectl

SPACE = "fineline-api-pod"
BASE = "smollm2-135m-instruct:pypi"


@pytest.fixture(scope="module")
def address(images: None, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the API's Service."""
    with installed(SPACE, tmp_path_factory.mktemp("overlay"), "api"):
        yield f"http://{get('service', 'fineline-api', SPACE)['spec']['clusterIP']}"


def client(address: str, team: str) -> OpenAI:
    command = ["fineline", "api", "keys", "make", team, "--json"]
    made = kubectl("exec", "-n", SPACE, "deployment/fineline-api", "--", *command).stdout
    return client_of(address, str(httpx2.Response(200, text=made).json()["key"]))


def test_a_job_goes_on_when_the_apis_pod_is_killed(address: str, tmp_path: Path) -> None:
    ours, theirs = client(address, "pets"), client(address, "cats")
    file = ours.files.create(file=write_chats(tmp_path / "rows.jsonl"), purpose="fine-tune")
    job = ours.fine_tuning.jobs.create(model=BASE, training_file=file.id, suffix="store")
    assert [one.id for one in ours.fine_tuning.jobs.list()] == [job.id]
    run = job.id.removeprefix("ftjob-")
    assert get("workflow", run, SPACE)["spec"]["workflowTemplateRef"]["name"] == "finetune"
    with pytest.raises(NotFoundError):
        theirs.fine_tuning.jobs.retrieve(job.id)

    pods = ["pods", "-n", SPACE, "-l", "app.kubernetes.io/component=api"]
    kubectl("delete", *pods, "--grace-period=0", "--force")
    kubectl("wait", "-n", SPACE, "--for=condition=Available", "deployment/fineline-api", "--timeout=120s")
    wait_for(lambda: httpx2.get(f"{address}/health").is_success, 60)
    assert [one.id for one in ours.fine_tuning.jobs.list()] == [job.id]
    assert ours.files.content(file.id).text == (tmp_path / "rows.jsonl").read_text()
    assert ours.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    assert get("workflow", run, SPACE)["spec"]["shutdown"] == "Stop"


def test_the_pod_reaches_the_registry_and_copies_its_database(address: str) -> None:
    client(address, "birds")
    script = """
from api.api_settings import api_settings
from api.cluster.database_copy import keep_copy
from api.models.registered_models import is_registered
from steps.backup.api_database import has_teams
from steps.common.storage import volumes
keep_copy(api_settings().database)
print(is_registered("pets-none"), has_teams(volumes.api_database_copy()))
"""
    told = kubectl("exec", "-n", SPACE, "deployment/fineline-api", "--", "python", "-c", script).stdout
    assert told.split() == ["False", "True"]
