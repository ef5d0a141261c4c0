"""The OpenAPI document: published, true, and with no request that it allows or forbids the server makes a mistake."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api.jobs.job_record import JobRecord
from api.server.services import Services
from recipes.reader import load
from tests.support.api_server import client_of, listening, machine_app, team_key
from tests.support.commands import free_port

EXAMPLES = 30  # of each operation
ROW = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
OPEN = {"/health"}  # to whoever has no key


@dataclass(frozen=True)
class Published:
    """The application, and what a team has there."""

    app: FastAPI
    folder: Path  # of the volumes
    key: str
    file_id: str
    job_id: str

    def with_what_there_is(self, case: schemathesis.Case[Any]) -> None:
        """Let half of the requests that name a file or a job name one that there is, unless they delete it."""
        if case.method == "DELETE":
            return
        for values, name, there_is in (
            (case.path_parameters, "file_id", self.file_id),
            (case.path_parameters, "job_id", self.job_id),
            (case.body, "training_file", self.file_id),
            (case.body, "validation_file", self.file_id),
        ):
            if isinstance(values, dict) and isinstance(value := values.get(name), str) and len(value) % 2:
                values[name] = there_is


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINELINE_RUNS", str(folder / "runs"))
        app = machine_app()
        state: Services = app.state.services
        key = team_key(state.sessions, "pets")
        with listening(app) as address:
            file_id = client_of(address, key).files.create(file=("rows.jsonl", ROW * 20), purpose="fine-tune").id
        job = JobRecord(
            id="ftjob-pets-1",
            run="pets-1",
            team="pets",
            created_at=1,
            model="smollm2-135m-instruct",
            name="pets-store",
            training_file=file_id,
            method={"type": "supervised"},
            seed=1,
        )
        state.jobs.create(job, load("pet-store"))
    return Published(app, folder, key, file_id, job.id)


@pytest.fixture
def schema(published: Published, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("FINELINE_RUNS", str(published.folder / "runs"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    # A parameter that nobody has heard of is ignored, so that clients of a later release of OpenAI's API are served.
    config = SchemathesisConfig.from_dict({"generation": {"allow-extra-parameters": False}})
    return schemathesis.openapi.from_asgi("/openapi.json", published.app, config=config)


operations = schemathesis.pytest.from_fixture("schema")


@operations.parametrize()
@hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
def test_no_request_finds_a_mistake_of_the_server(case: schemathesis.Case[Any], published: Published) -> None:
    published.with_what_there_is(case)
    headers = {"Authorization": f"Bearer {published.key}"}
    # What is well-formed may name a model or an item of a list that there is not.
    case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])


@pytest.fixture
def document(published: Published) -> dict[str, Any]:
    return published.app.openapi()


def test_what_openais_client_asks_for_is_there(document: dict[str, Any]) -> None:
    found = {(method, re.sub(r"{\w+}", "{}", path)) for path, item in document["paths"].items() for method in item}
    job = "/v1/fine_tuning/jobs/{}"
    assert found >= {
        ("post", "/v1/files"),
        ("get", "/v1/files"),
        ("get", "/v1/files/{}"),
        ("delete", "/v1/files/{}"),
        ("get", "/v1/files/{}/content"),
        ("post", "/v1/fine_tuning/jobs"),
        ("get", "/v1/fine_tuning/jobs"),
        ("get", job),
        ("post", f"{job}/cancel"),
        ("post", f"{job}/pause"),
        ("post", f"{job}/resume"),
        ("get", f"{job}/events"),
        ("get", f"{job}/checkpoints"),
        ("get", "/v1/models"),
        ("get", "/v1/models/{}"),
        ("delete", "/v1/models/{}"),
        ("post", "/v1/chat/completions"),
    }


def test_each_operation_wants_a_key_and_declares_its_errors(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if path in OPEN:
                continue
            assert operation["security"] == [{"key": []}], (method, path)
            for status in ("4XX", "5XX"):
                content = operation["responses"][status]["content"]["application/json"]
                assert content["schema"] == {"$ref": "#/components/schemas/ErrorAnswer"}, (method, path)
            assert "422" not in operation["responses"], (method, path)
            assert operation["description"], (method, path)


def test_each_answer_has_a_form(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for content in operation["responses"]["200"]["content"].values():
                assert content["schema"], (method, path)
