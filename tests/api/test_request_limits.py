"""What is refused whatever it asks for."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, Request

from api import request_limits
from api.api_settings import api_settings
from api.server import file_routes
from api.server.authentication import caller
from api.server.services import Services
from api.teams.caller import Caller
from recipes.serving import Serve
from tests.support.api_server import listening, machine_app, team_key

MOST = 100_000  # bytes of an upload
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx2.Client]:
    monkeypatch.setattr(request_limits, "MAX_JSON_BYTES", 1000)
    monkeypatch.setattr(request_limits, "MAX_CHAT_BYTES", 2000)
    monkeypatch.setattr(request_limits, "SHORT_BYTES", 500)
    monkeypatch.setattr(file_routes, "PATH", "/length")  # takes uploads
    app = machine_app(replace(api_settings(), max_upload_bytes=MOST))

    @app.post("/v1/echo")
    def echo(body: dict[str, Any], by: Annotated[Caller, Depends(caller)]) -> dict[str, Any]:
        return body

    @app.post("/v1/length")
    async def length(request: Request, by: Annotated[Caller, Depends(caller)]) -> int:
        return len(await request.body())

    state: Services = app.state.services
    key = team_key(state.sessions, "pets")
    with listening(app) as address, httpx2.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}) as one:
        yield one


def in_parts(size: int) -> Iterator[bytes]:
    for _ in range(size // 100):
        yield b" " * 100


@pytest.mark.parametrize("content", [b" " * 1001, 1100], ids=["told", "untold"])
def test_a_body_that_is_too_large_is_refused(http: httpx2.Client, content: bytes | int) -> None:
    answer = http.post("/v1/length", content=in_parts(content) if isinstance(content, int) else content, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert "the body is larger than the 1000 bytes" in answer.json()["error"]["message"]


@pytest.mark.parametrize("told", [True, False])
def test_a_file_that_is_too_large_is_refused(http: httpx2.Client, told: bool) -> None:
    size = MOST + request_limits.FORM_BYTES
    for more, status in ((0, 200), (100, 413)):
        content = b" " * (size + more) if told else in_parts(size + more)
        answer = http.post("/v1/length", content=content, headers=FORM)
        if told or status == 413:
            assert answer.status_code == status
        else:
            assert answer.json() == size // 100 * 100


def test_only_an_upload_may_be_as_large_as_a_file(http: httpx2.Client) -> None:
    for content in (b" " * 1001, in_parts(1100)):
        answer = http.post("/v1/echo", content=content, headers=FORM)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_what_a_gateway_accepts_passes_the_front_door() -> None:
    assert Serve().max_request_mib * 2**20 == request_limits.MAX_CHAT_BYTES


def test_a_conversation_may_be_longer(http: httpx2.Client) -> None:
    for size, status in ((1500, 404), (2100, 413)):
        content = json.dumps({"model": "nobodys", "padding": "x" * size}).encode()
        assert http.post("/v1/chat/completions", content=content).status_code == status


@pytest.mark.parametrize("path", ["/health", "/openapi.json", "/nothing"])
def test_a_body_outside_of_v1_is_not_read(http: httpx2.Client, path: str) -> None:
    with socket.create_connection((http.base_url.host, http.base_url.port or 0), timeout=10) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 404" if path == "/nothing" else b"HTTP/1.1 405")


def test_a_long_body_is_checked_in_a_thread(http: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    found, check = list[str](), request_limits._check_text

    def checked(body: bytes) -> None:
        found.append(threading.current_thread().name)
        check(body)

    monkeypatch.setattr(request_limits, "_check_text", checked)
    for size in (500, 501):
        assert http.post("/v1/length", content=b" " * size).json() == size
    assert ["AnyIO" in name for name in found] == [False, True]


def test_a_body_is_passed_on_as_it_is(http: httpx2.Client) -> None:
    text = {"text": 'ä 😀 \\ud800 \\\\u0000 " \n', "numbers": [1, 2.5, None]}
    for content in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
        assert http.post("/v1/echo", content=content, headers=JSON).json() == text
    assert http.post("/v1/length", content=in_parts(900)).json() == 900
    assert http.post("/v1/length").json() == 0


@pytest.mark.parametrize(
    "text",
    [rb"\u0000", rb"\ud800", rb"\uDFFF", rb"\ude00\ud83d", rb"\ud83d\ud83d\ude00", rb"\ud83d x", rb"\\\ud800", b"\0"],
)
def test_a_character_that_is_in_no_text_is_refused(http: httpx2.Client, text: bytes) -> None:
    answer = http.post("/v1/echo", content=b'{"text": "' + text + b'"}', headers=JSON)
    assert answer.status_code == 400
    assert "contains NUL or a lone surrogate" in answer.json()["error"]["message"]


@pytest.mark.parametrize("content", [b'{"a": "\xff"}', b'{"a": "\xed\xa0\x80"}', '{"a": 1}'.encode("utf-16")])
def test_a_body_that_is_not_utf8_is_refused(http: httpx2.Client, content: bytes) -> None:
    answer = http.post("/v1/echo", content=content, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["message"][:21]) == (400, "the body is not UTF-8")


@pytest.mark.parametrize("path", ["/v1/models/a%00b", "/v1/models?after=%00"])
def test_an_address_with_nul_is_refused(http: httpx2.Client, path: str) -> None:
    assert http.get(path).status_code == 400
