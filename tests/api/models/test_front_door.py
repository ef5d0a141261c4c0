"""The front door before real gateways: whose models it asks, with which key, and how it passes answers back."""

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pytest

from api.api_settings import api_settings
from api.models import model_owners, passed_on
from api.server import front_door_routes
from api.server.application import create_app
from steps.common.machine import servers
from steps.common.runtime.cluster_settings import API_KEY_SETTING
from steps.rollout.gateway.upstream import Rules
from steps.rollout.places.processes import start_gateway
from tests.support.commands import free_port, wait_for
from tests.support.running_api import RunningApi, running_api
from tests.support.scripted_model import ScriptedModel

GATEWAY_KEY = "the-gateways-own-key"
NAME = "pets-chat"
CHAT: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": "hello"}]}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SAID = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": NAME,
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "we are open"}}],
}


@dataclass
class Door:
    """The API, the gateway of one team's model, and the model server behind it."""

    api: RunningApi
    gateway: servers.Gateway
    model: ScriptedModel

    def post(self, path: str = "chat/completions", team: str = "pets", **options: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.api.key(team)}", **options.pop("headers", {})}
        return httpx2.post(f"{self.api.url}/{path}", headers=headers, **{"json": CHAT, "timeout": 30, **options})

    def connection(self, body: dict[str, Any]) -> socket.socket:
        """Return a raw connection over which a chat was asked for."""
        host, port = self.api.address.removeprefix("http://").split(":")
        sent = json.dumps({**CHAT, **body}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.api.key('pets')}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
        )
        found = socket.create_connection((host, int(port)))
        found.settimeout(10)
        found.sendall(head.encode() + sent)
        return found


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    monkeypatch.setenv(API_KEY_SETTING, GATEWAY_KEY)
    model = ScriptedModel(body=json.dumps(SAID).encode())
    server = model.start()
    rules = Rules(name=NAME, host="127.0.0.1", port=free_port(), answer_seconds=60, request_bytes=1 << 20)
    gateway = start_gateway(rules, [GATEWAY_KEY], [model.upstream], model.upstream)
    with running_api(tmp_path) as api:
        api.key("pets")
        with api.services.sessions() as session:
            model_owners.claim(session, "pets", NAME, None)
        yield Door(api, gateway, model)
    gateway.process.stop()
    server.shutdown()


def test_the_client_gets_the_answer_of_its_teams_model(door: Door) -> None:
    answer = door.api.client().chat.completions.with_raw_response.create(**CHAT)
    assert answer.parse().choices[0].message.content == "we are open"
    assert answer.content == door.model.body
    assert answer.headers["fineline-version"] == "1"
    assert answer.headers["content-type"] == "application/json"
    path, _, body = door.model.asked[0]
    assert (path, json.loads(body)) == ("/v1/chat/completions", CHAT)


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses"])
def test_the_body_is_passed_on_as_it_is(door: Door, path: str) -> None:
    body = b'{ "model" : "pets-chat",\n "anything": [1.0, "\\u00e4"]}'
    answer = door.post(path, json=None, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.content) == (200, door.model.body)
    assert door.model.asked[0][0] == f"/v1/{path}"
    assert door.model.asked[0][2] == body


def test_neither_the_teams_key_nor_what_belongs_to_the_connection_is_passed_on(door: Door) -> None:
    key = door.api.key("pets")
    odd = {"x-api-key": key, "api-key": key, "cookie": f"key={key}", "te": "trailers", "traceparent": TRACE}
    odd |= {"openai-organization": key, "fineline-model": "other", "x-forwarded-for": "10.0.0.1"}
    assert door.post(headers=odd).status_code == 200
    _, headers, body = door.model.asked[0]
    assert key not in str(headers) + body.decode()
    assert GATEWAY_KEY not in str(headers)
    assert not {"te", "cookie", "x-api-key", "openai-organization", "fineline-model"} & headers.keys()
    assert headers["traceparent"] == TRACE


def test_headers_have_any_encoding(door: Door) -> None:
    assert door.post(headers={b"user-agent": b"caf\xc3\xa9", b"x-request-id": b"\xe9"}).status_code == 200
    _, headers, _ = door.model.asked[0]
    assert headers["user-agent"].encode("latin-1") == b"caf\xc3\xa9"


def test_headers_of_the_connection_are_not_passed_back(door: Door) -> None:
    door.model.headers |= {"X-Own": "kept", "Connection": "keep-alive", "Keep-Alive": "timeout=5"}
    answer = door.post()
    assert answer.headers["x-own"] == "kept"
    assert not {"keep-alive", "connection"} & {name.lower() for name in answer.headers}
    assert len(answer.headers.get_list("date")) == 1


def test_a_stream_arrives_piece_by_piece(door: Door) -> None:
    def piece(text: str) -> bytes:
        delta = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
        return f"data: {json.dumps({**SAID, 'object': 'chat.completion.chunk', 'choices': [delta]})}\n\n".encode()

    stream = door.api.client().chat.completions.create(**CHAT, stream=True)
    words = []
    door.model.pieces.put(piece("we"))
    for chunk in stream:  # the next piece is sent only once the one before has arrived
        words.append(chunk.choices[0].delta.content)
        last = len(words) == 3
        for part in [b"data: [DONE]\n\n", None] if last else [piece(["are", "open"][len(words) - 1])]:
            door.model.pieces.put(part)
    assert words == ["we", "are", "open"]
    assert stream.response.headers["content-type"].startswith("text/event-stream")


def test_bytes_of_a_stream_are_not_changed(door: Door) -> None:
    pieces = [b": a comment\n\n", b"data: \xc3", b"\xa4\n\nda", b"ta: {}\r\n\r\n"]
    with door.connection({"stream": True}) as connection:
        for piece in pieces:
            door.model.pieces.put(piece)
        door.model.pieces.put(None)
        got = b""
        while not got.endswith(b"0\r\n\r\n"):
            got += connection.recv(4096)
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.lower().count(b"transfer-encoding: chunked") == 1
    whole = b""
    while size := int(body.partition(b"\r\n")[0], 16):
        body = body.partition(b"\r\n")[2]
        whole, body = whole + body[:size], body[size + 2 :]
    assert whole == b"".join(pieces)


def test_a_client_that_goes_ends_the_request_to_the_model(door: Door) -> None:
    with door.connection({"stream": True}) as connection:
        door.model.pieces.put(b"data: {}\n\n")
        assert connection.recv(4096)
        assert not door.model.gone.is_set()
    assert door.model.gone.wait(5)


def test_a_client_that_goes_before_the_answer_begins_ends_the_request_too(door: Door) -> None:
    door.model.silent.set()
    with door.connection({}):
        wait_for(lambda: door.model.asked, 120)
    assert door.model.gone.wait(5)


def test_a_stream_that_breaks_off_does_not_look_complete(door: Door) -> None:
    with door.connection({"stream": True}) as connection:
        door.model.pieces.put(b"data: {}\n\n")
        got = connection.recv(4096)
        door.model.pieces.put(b"")
        while part := connection.recv(4096):
            got += part
    assert b"data: {}" in got
    assert not got.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 503])
def test_errors_of_the_model_are_passed_back_as_they_are(door: Door, status: int) -> None:
    door.model.status, door.model.body = status, b'{"error": {"message": "it says no", "type": "own", "code": "c"}}'
    door.model.headers |= {"Retry-After": "7"}
    with pytest.raises(openai.APIStatusError, match="it says no") as caught:
        door.api.client().chat.completions.create(**CHAT)
    assert caught.value.status_code == status
    assert caught.value.response.content == door.model.body
    assert caught.value.response.headers["retry-after"] == "7"


def test_what_the_gateway_refuses_is_passed_back(door: Door) -> None:
    large = {**CHAT, "padding": "x" * (2 << 20)}
    answer = door.post(json=large)
    assert (answer.status_code, "larger" in answer.json()["error"]["message"]) == (413, True)
    twice = b'{"model": "pets-chat", "model": "pets-chat"}'
    assert door.post(json=None, content=twice).status_code in (400, 403, 404)
    other_last = b'{"model": "rivals-chat", "model": "pets-chat"}'
    assert door.post(json=None, content=other_last).status_code in (400, 403, 404)
    assert door.model.asked == []


def test_a_gateway_that_stands_still_is_not_waited_for_for_ever(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passed_on, "TIMEOUT", httpx2.Timeout(0.5))
    os.kill(door.gateway.process.pid, signal.SIGSTOP)
    try:
        answer = door.post()
    finally:
        os.kill(door.gateway.process.pid, signal.SIGCONT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")


def test_a_gateway_that_does_not_listen_is_told_as_that(door: Door) -> None:
    # A living process that is not the gateway any more has its record.
    other = door.gateway.process.model_copy(update={"port": free_port()})
    servers.remember(door.gateway.model_copy(update={"process": other}))
    answer = door.post()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "does not answer" in answer.json()["error"]["message"]
    servers.remember(door.gateway)


def test_a_model_that_is_not_the_teams_or_not_served_does_not_exist(door: Door) -> None:
    with door.api.services.sessions() as session:
        model_owners.claim(session, "pets", "pets-later", None)
    told = set()
    for team, model in (("pets", "pets-later"), ("pets", "nobodys"), ("rivals", NAME), ("pets", "smollm2-135m")):
        door.api.key(team)
        with pytest.raises(openai.NotFoundError) as caught:
            door.api.client(team).chat.completions.create(**{**CHAT, "model": model})
        assert caught.value.code == "model_not_found"
        told.add(json.dumps(caught.value.body).replace(model, "MODEL"))
    assert len(told) == 1
    answer = door.post(json={**CHAT, "model": "pets-" * 100_000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert len(answer.content) < 1000
    assert door.model.asked == []
    door.gateway.process.stop()
    with pytest.raises(openai.NotFoundError):
        door.api.client().chat.completions.create(**CHAT)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[]",
        b'"pets-chat"',
        b"{}",
        b'{"model": 5}',
        b'{"model": ["pets-chat"]}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_body_without_a_model_is_refused(door: Door, body: bytes) -> None:
    answer = door.post(json=None, content=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_client_that_goes_within_its_body_is_no_fault(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(door.api.services, api_settings())
    head = [(b"authorization", f"Bearer {door.api.key('pets')}".encode()), (b"content-length", b"1000")]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": head}
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": b'{"model": ', "more_body": True},
        *[{"type": "http.disconnect"} for _ in range(3)],
    ]
    sent = list[MutableMapping[str, Any]]()

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    anyio.run(app, scope, receive, send)
    assert sent[0]["status"] == 400
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_few_long_bodies_are_read_at_once(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    read, names = front_door_routes._model_named, list[str]()
    most = 0

    def watched(body: bytes) -> str:
        nonlocal most
        names.append(threading.current_thread().name)
        most = max(most, int(door.api.services.long_bodies.borrowed_tokens))
        time.sleep(0.05)  # for the others to come
        return read(body)

    monkeypatch.setattr(front_door_routes, "_model_named", watched)
    long = {**CHAT, "padding": "x" * front_door_routes.SHORT_BYTES}
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: door.post(json=long), range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= most <= 4
    assert len(names) == 12
    assert all("AnyIO" in name for name in names)
    assert door.post().status_code == 200
    assert "AnyIO" not in names[-1]


def test_without_a_key_nobody_is_let_in(door: Door) -> None:
    for key in ("wrong", GATEWAY_KEY):
        answer = door.post(headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 401
    assert door.model.asked == []


def test_a_gateway_without_a_key_gets_none(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_SETTING)
    assert door.post().status_code == 401  # of the gateway, which wants one


def test_many_streams_at_once_do_not_wait_for_each_other(door: Door) -> None:
    connections = [door.connection({"stream": True}) for _ in range(60)]  # more than there are threads
    wait_for(lambda: len(door.model.asked) == len(connections), 120)
    started = time.monotonic()
    assert door.post().status_code == 200
    assert time.monotonic() - started < 5
    for connection in connections:
        connection.close()
