"""The OpenAPI document: published, true, and with no request that it allows or forbids the server makes a mistake."""

import re
from typing import Any

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api.services import Services
from tests.support.api_server import machine_app, team_key
from tests.support.commands import free_port

EXAMPLES = 30  # of each operation
OPEN = {"/health"}  # to whoever has no key


@pytest.fixture(scope="module")
def app_and_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[FastAPI, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINELINE_RUNS", str(tmp_path_factory.mktemp("runs")))
        app = machine_app()
    state: Services = app.state.services
    return app, team_key(state.sessions, "pets")


@pytest.fixture(scope="module")
def document(app_and_key: tuple[FastAPI, str]) -> dict[str, Any]:
    return app_and_key[0].openapi()


@pytest.fixture
def published(app_and_key: tuple[FastAPI, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    # A parameter that nobody has heard of is ignored, so that clients of a later release of OpenAI's API are served.
    config = SchemathesisConfig.from_dict({"generation": {"allow-extra-parameters": False}})
    return schemathesis.openapi.from_asgi("/openapi.json", app_and_key[0], config=config)


operations = schemathesis.pytest.from_fixture("published")


@operations.parametrize()
@hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
def test_no_request_finds_a_mistake_of_the_server(case: schemathesis.Case, app_and_key: tuple[FastAPI, str]) -> None:
    headers = {"Authorization": f"Bearer {app_and_key[1]}"}
    # What is well-formed may name a file or a job that there is not.
    case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])


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
