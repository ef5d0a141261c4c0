"""Whatever goes wrong is told in OpenAI's form, and OpenAI's client raises by it."""

import json
import logging
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import httpx2
import openai
import pytest
from fastapi import Depends
from openai import OpenAI
from pydantic import BaseModel, Field, field_validator
from sqlalchemy import text

from api.error_answers import LONGEST_MESSAGE, error_answer
from api.openai_errors import ApiError, not_found
from api.server.authentication import caller
from api.server.services import Services
from api.teams.caller import Caller
from recipes.reader import RecipeError
from steps.common.kubernetes.api_errors import ConflictError, ForbiddenError, UnansweredError
from steps.common.runtime.errors import UnreachableError, UserError
from tests.support.api_server import client_of, listening, machine_app, team_key
from tests.support.commands import wait_for

FAULTS: dict[str, Exception] = {
    "refused": ApiError(409, "the model name is taken", param="suffix", code="name_taken"),
    "missing": not_found("fine tuning job", "ftjob-x", "fine_tuning_job_id"),
    "mistake": UserError("data.train: no rows; see s3://me:hidden-word@host/chats.jsonl"),
    "recipe": RecipeError("tune.epochs: is not a number"),
    "silent": UnreachableError("MLflow does not answer"),
    "bug": KeyError("a detail of the code"),
    "no-cluster": UnansweredError("cannot reach the cluster: HTTPSConnectionPool(host='10.0.0.1')"),
    "busy-cluster": ConflictError("the Kubernetes API answers: the object has been modified"),
    "closed-cluster": ForbiddenError('the Kubernetes API answers: User "a" cannot list resource "workflows"'),
}


class Method(BaseModel):
    type: Literal["supervised", "dpo"]
    epochs: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"

    @field_validator("type")
    @classmethod
    def _known(cls, value: str) -> str:
        if value == "dpo":
            raise ValueError("Needs pairs")
        return value


class Wanted(BaseModel):
    model: str
    method: Method | None = None


@pytest.fixture(scope="module")
def app_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINELINE_RUNS", str(tmp_path_factory.mktemp("runs")))
        app = machine_app()

        @app.get("/v1/faults/{name}")
        def fault(name: str, by: Annotated[Caller, Depends(caller)]) -> str:
            raise FAULTS[name]

        @app.get("/v1/broken-database")
        def broken(by: Annotated[Caller, Depends(caller)]) -> str:
            with state.sessions() as session:
                session.execute(text("SELECT * FROM nowhere"))
            return ""

        @app.post("/v1/wanted")
        def wanted(body: Wanted, by: Annotated[Caller, Depends(caller)], number: int = 1) -> str:
            return body.model

        state: Services = app.state.services
        with listening(app) as address:
            yield address, team_key(state.sessions, "pets")


@pytest.fixture
def client(app_key: tuple[str, str]) -> OpenAI:
    return client_of(*app_key)


def post(client: OpenAI, content: bytes, path: str = "/wanted") -> httpx2.Response:
    headers = {"Authorization": f"Bearer {client.api_key}", "Content-Type": "application/json"}
    return httpx2.post(f"{client.base_url}{path.lstrip('/')}", content=content, headers=headers)


@pytest.mark.parametrize(
    ("name", "kind", "message", "param", "code"),
    [
        ("refused", openai.ConflictError, "the model name is taken", "suffix", "name_taken"),
        (
            "missing",
            openai.NotFoundError,
            "no such fine tuning job: ftjob-x; check the id and the team of the API key",
            "fine_tuning_job_id",
            "fine_tuning_job_not_found",
        ),
        ("mistake", openai.BadRequestError, "data.train: no rows; see s3://host/chats.jsonl", None, None),
        ("recipe", openai.BadRequestError, "tune.epochs: is not a number", None, None),
        ("silent", openai.InternalServerError, "MLflow does not answer", None, None),
    ],
)
def test_an_error_is_told_in_openais_form(
    client: OpenAI, name: str, kind: type[openai.APIStatusError], message: str, param: str | None, code: str | None
) -> None:
    with pytest.raises(kind) as raised:
        client.get(f"/faults/{name}", cast_to=str)
    error = raised.value
    assert isinstance(error.body, dict)
    assert (error.body["message"], error.param, error.code) == (message, param, code)
    assert error.type in ("invalid_request_error", "not_found_error", "conflict_error", "server_error")


def test_what_does_not_answer_may_be_asked_again(client: OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        client.get("/faults/silent", cast_to=str)
    assert raised.value.status_code == 503
    assert raised.value.response.headers["retry-after"] == "10"


@pytest.mark.parametrize(("name", "status"), [("no-cluster", 503), ("busy-cluster", 503), ("closed-cluster", 500)])
def test_what_the_cluster_says_is_logged_and_not_told(
    client: OpenAI, caplog: pytest.LogCaptureFixture, name: str, status: int
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(openai.InternalServerError) as raised:
        client.get(f"/faults/{name}", cast_to=str)
    assert raised.value.status_code == status
    assert raised.value.response.headers.get("retry-after") == ("10" if status == 503 else None)
    assert str(FAULTS[name]) not in raised.value.response.text
    assert str(FAULTS[name]) in caplog.text


def test_a_bug_of_ours_is_logged_and_not_told(client: OpenAI, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("uvicorn.error")  # which passes nothing on
    log.addHandler(caplog.handler)
    try:
        with pytest.raises(openai.InternalServerError) as raised:
            client.get("/faults/bug", cast_to=str)
        wait_for(lambda: "KeyError: 'a detail of the code'" in caplog.text, 120)
    finally:
        log.removeHandler(caplog.handler)
    assert raised.value.status_code == 500
    assert raised.value.type == "server_error"
    assert "detail" not in raised.value.response.text


def test_a_database_that_fails_is_not_told_in_detail(client: OpenAI, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(openai.InternalServerError) as raised:
        client.get("/broken-database", cast_to=str)
    assert raised.value.status_code == 503
    assert "nowhere" not in raised.value.response.text
    assert "nowhere" in caplog.text


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "model", "model: field required"),
        ([], None, "the body: input should be a valid"),
        ({"model": 7}, "model", "model: input should be a valid string"),
        ({"model": "x", "method": {"type": "rl"}}, "method.type", "method.type: input should be 'supervised' or 'dpo'"),
        ({"model": "x", "method": {"type": "dpo"}}, "method.type", "method.type: needs pairs"),
        (
            {"model": "x", "method": {"type": "supervised", "epochs": 0}},
            "method.epochs",
            "method.epochs: input should be",
        ),
    ],
)
def test_a_wrong_field_is_named(client: OpenAI, body: Any, param: str | None, message: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.post("/wanted", cast_to=str, body=body)
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["message"].startswith(message)
    assert (raised.value.param, raised.value.type) == (param, "invalid_request_error")


def test_a_wrong_parameter_of_the_address_is_named(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.post("/wanted?number=many", cast_to=str, body={"model": "x"})
    assert raised.value.param == "number"


@pytest.mark.parametrize("content", [b"", b"{", b"{'a': 1}", b"[" * 100_000, b'{"model": 1' + b"0" * 5000 + b"}"])
def test_a_body_that_is_no_json_is_refused(client: OpenAI, content: bytes) -> None:
    answer = post(client, content)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_message_that_quotes_much_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-long-secret")
    for before in range(LONGEST_MESSAGE - 20, 2 * LONGEST_MESSAGE + 5):
        quoted = f"{'x' * before}a-long-secret" + "a." * 2 * LONGEST_MESSAGE
        told = json.loads(bytes(error_answer(ApiError(400, quoted, param=quoted)).body))["error"]
        assert len(told["message"]) == LONGEST_MESSAGE
        assert "a-lo" not in told["message"]
        assert told["message"].endswith("…")
        assert len(told["param"]) == 200
    assert "a short one" in bytes(error_answer(ApiError(400, "a short one")).body).decode()


def test_an_address_that_there_is_not(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no GET /v1/nothing") as raised:
        client.get("/nothing", cast_to=str)
    assert raised.value.code == "unknown_url"
    with pytest.raises(openai.NotFoundError):
        client.get("/wanted/", cast_to=str)


def test_a_method_that_an_address_does_not_take(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        client.delete("/wanted", cast_to=str)
    assert raised.value.status_code == 405
    assert raised.value.response.headers["allow"] == "POST"
    assert raised.value.code == "method_not_allowed"


def test_outside_of_v1_too_errors_have_the_form(client: OpenAI) -> None:
    answer = httpx2.get(str(client.base_url).replace("/v1/", "/nothing"))
    assert answer.status_code == 404
    assert set(json.loads(answer.content)["error"]) == {"message", "type", "param", "code"}
