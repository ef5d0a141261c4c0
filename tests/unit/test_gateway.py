"""The gateway in front of a model server: which paths, whose key, whose name."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx2
import pytest
import uvicorn

from steps.rollout.gateway import build
from steps.rollout.upstream import Upstream
from tests.pipeline.commands import free_port, wait_for


@dataclass
class Served:
    """A gateway, and what the server behind it was asked."""

    url: str
    asked: list[dict[str, Any]]


def serve(api_key: str) -> Iterator[Served]:
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({"status": "ok"})

        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer({"choices": []})

        def _answer(self, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    behind = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    upstream = Upstream(
        url=f"http://127.0.0.1:{behind.server_address[1]}", version=3, run="r", base="b", adapter_sha256="a"
    )
    port = free_port()
    config = uvicorn.Config(build("store", lambda: upstream, api_key), host="127.0.0.1", port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started, 20)
    yield Served(f"http://127.0.0.1:{port}", asked)
    server.should_exit = True
    thread.join(10)
    behind.shutdown()


@pytest.fixture
def with_key() -> Iterator[Served]:
    yield from serve("right")


@pytest.fixture
def without_key() -> Iterator[Served]:
    yield from serve("")


CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic right"}])
def test_where_a_key_is_set_a_request_without_it_goes_no_further(with_key: Served, given: dict[str, str]) -> None:
    for answer in (
        httpx2.post(f"{with_key.url}{CHAT}", json=BODY, headers=given),
        httpx2.get(f"{with_key.url}/v1/models", headers=given),
    ):
        assert answer.status_code == 401
        assert "API key" in answer.json()["error"]["message"]
    assert with_key.asked == []


def test_with_the_key_it_is_answered_and_health_asks_for_none(with_key: Served) -> None:
    key = {"Authorization": "Bearer right"}
    assert httpx2.post(f"{with_key.url}{CHAT}", json=BODY, headers=key).status_code == 200
    assert httpx2.get(f"{with_key.url}/health").json()["version"] == 3


def test_without_a_key_it_is_answered_under_the_models_name(without_key: Served) -> None:
    assert httpx2.post(f"{without_key.url}{CHAT}", json=BODY).status_code == 200
    assert without_key.asked == [{**BODY, "model": "store"}]
    other = httpx2.post(f"{without_key.url}{CHAT}", json={**BODY, "model": "other"})
    assert other.status_code == 404


@pytest.mark.parametrize("path", ["/load_model", "/reset", "/docs", "/openapi.json", "/v1/load"])
def test_paths_that_are_not_openais_are_not_there(without_key: Served, path: str) -> None:
    assert httpx2.post(f"{without_key.url}{path}", json={}).status_code in (404, 405)
    assert without_key.asked == []
