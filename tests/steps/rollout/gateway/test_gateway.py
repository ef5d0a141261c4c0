"""Envoy as a model's gateway, in front of a small real server: what it forwards, what it refuses, how it switches."""

import json
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from steps.common.machine import servers as serving
from steps.common.runtime import cluster_settings
from steps.common.storage import volumes
from steps.rollout.drain import drain
from steps.rollout.gateway import gateway
from steps.rollout.gateway.admin import EnvoyAdmin
from steps.rollout.gateway.envoy import CLUSTERS, LISTENERS, ROUTES
from steps.rollout.gateway.traffic import read
from steps.rollout.gateway.upstream import Rules, Upstream
from steps.rollout.places.processes import start_gateway
from tests.support import model_server
from tests.support.commands import free_port, wait_for

CHAT = "/v1/chat/completions"
BODY = {"model": "store", "messages": [{"role": "user", "content": "hello"}]}
KEY = {"Authorization": "Bearer right"}


@dataclass
class Behind:
    """A small model server that says who it is, and streams three words on request."""

    version: int
    asked: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    pause: float = 0.0
    port: int = 0

    def start(self) -> ThreadingHTTPServer:
        behind = self

        class Handler(model_server.Handler):
            def do_GET(self) -> None:
                behind.paths.append(self.path)
                self._answer({"status": "ok"})

            def do_POST(self) -> None:
                behind.paths.append(self.path)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                behind.asked.append(body)
                behind.headers.append({key.lower(): value for key, value in self.headers.items()})
                if body.get("stream"):
                    return self._stream()
                if body.get("breaks"):
                    return self._break()
                time.sleep(behind.pause)
                return self._answer({"said_by": behind.version})

            def _break(self) -> None:
                """Do as uvicorn does after an exception: answer, and close the connection without having said so."""
                self.send_response(500)
                self.send_header("Content-Length", "0")
                self.end_headers()
                self.wfile.flush()
                time.sleep(0.05)
                self.close_connection = True

            def _stream(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for word in ("one", "two", "three"):
                    part = f"data: {word}\n\n".encode()
                    self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                    self.wfile.flush()
                    time.sleep(0.5)
                self.wfile.write(b"0\r\n\r\n")

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    @property
    def upstream(self) -> Upstream:
        return Upstream(port=self.port, version=self.version, run="run-7", base="hf://a/b@c", adapter_sha256="abc")


@dataclass
class Gate:
    """A gateway and the two servers that it can point at."""

    gateway: serving.Gateway
    rules: Rules
    first: Behind
    second: Behind
    stats_port: int = 0

    @property
    def url(self) -> str:
        return self.gateway.url.removesuffix("/v1")

    @property
    def admin(self) -> EnvoyAdmin:
        return EnvoyAdmin(Path(self.gateway.admin))

    def post(self, path: str = CHAT, json: Any = BODY, **options: Any) -> httpx2.Response:
        return httpx2.post(f"{self.url}{path}", json=json, timeout=30, **options)

    def point(self, at: Behind) -> None:
        folder, admin = Path(self.gateway.folder), Path(self.gateway.admin)
        known = [self.first.upstream, self.second.upstream]
        gateway.wait_applied(self.admin, CLUSTERS, gateway.write_clusters(folder, admin, known))
        gateway.wait_applied(self.admin, ROUTES, gateway.write_routes(folder, self.rules, at.upstream))


def gates(folder: Path, key: str, **rules: Any) -> Iterator[Gate]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(volumes.RUNS_SETTING, str(folder))
        patch.setenv("FINELINE_API_KEY", key)
        patch.setenv("HF_TOKEN", "hf_0123456789")
        first, second = Behind(1), Behind(2)
        servers = [first.start(), second.start()]
        settings = {"answer_seconds": 60, "request_bytes": 2 << 20, **rules}
        given = Rules(name="store", host="127.0.0.1", port=free_port(), stats_port=free_port(), **settings)
        started = start_gateway(given, [key] if key else [], [first.upstream], first.upstream)
        yield Gate(started, given, first, second, given.stats_port)
        started.process.stop()
        serving.forget_gateway("store")
        for server in servers:
            server.shutdown()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    yield from gates(tmp_path_factory.mktemp("keyed"), "right")


@pytest.fixture(scope="module")
def unkeyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    yield from gates(tmp_path_factory.mktemp("open"), "")


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic right"}])
def test_a_request_without_the_required_key_is_refused(keyed: Gate, given: dict[str, str]) -> None:
    before = len(keyed.first.asked)
    for answer in (keyed.post(headers=given), httpx2.get(f"{keyed.url}/v1/models", headers=given)):
        assert answer.status_code == 401
        assert "API key" in answer.json()["error"]["message"]
    assert len(keyed.first.asked) == before


def test_a_request_with_the_key_is_answered_and_the_server_does_not_see_the_key(keyed: Gate) -> None:
    assert keyed.post(headers=KEY).json() == {"said_by": 1}
    assert "authorization" not in keyed.first.headers[-1]


def test_the_health_check_needs_no_key(keyed: Gate) -> None:
    answer = httpx2.get(f"{keyed.url}/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["fineline-version"] == "1"


def test_the_key_is_in_no_command_line_and_no_file_that_other_users_can_read(keyed: Gate) -> None:
    process = psutil.Process(keyed.gateway.process.pid)
    assert not any("right" in part for part in process.cmdline())
    assert not {"FINELINE_API_KEY", "HF_TOKEN"} & process.environ().keys()
    folder = Path(keyed.gateway.folder)
    holding = [path for path in folder.iterdir() if path.is_file() and '"right"' in path.read_text()]
    assert [path.name for path in holding] == [LISTENERS]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in holding)
    assert stat.S_IMODE(Path(keyed.gateway.admin).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "path", ["/load_model", "/reset", "/docs", "/openapi.json", "/v1/load", "/v1/audio/transcriptions", "/metrics", "/"]
)
def test_only_openais_paths_exist(unkeyed: Gate, path: str) -> None:
    before = list(unkeyed.first.paths)
    for answer in (unkeyed.post(path, {}), httpx2.get(f"{unkeyed.url}{path}")):
        assert answer.status_code == 404
        assert answer.json()["error"] == {
            "message": "this path does not exist here",
            "type": "invalid_request_error",
            "code": 404,
        }
    assert unkeyed.first.paths == before


@pytest.mark.parametrize(
    "path", ["/v1/../reset", "/v1//../reset", "/v1/chat/completions/../../../reset", "/v1%2f..%2freset"]
)
def test_an_obfuscated_path_reaches_nothing_either(unkeyed: Gate, path: str) -> None:
    before = list(unkeyed.first.paths)
    with httpx2.Client() as client:
        request = client.build_request("POST", unkeyed.url, json=BODY)
        request.url = request.url.copy_with(raw_path=path.encode())
        assert client.send(request).status_code in (400, 404)
    assert unkeyed.first.paths == before


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses"])
def test_openais_paths_are_forwarded_unchanged(unkeyed: Gate, path: str) -> None:
    assert unkeyed.post(path, {**BODY, "temperature": 0.5}).status_code == 200
    assert unkeyed.first.asked[-1] == {**BODY, "temperature": 0.5}
    assert unkeyed.first.paths[-1] == path


@pytest.mark.parametrize("body", ['{"model": "other"}', '{"model": "store", "model": "other"}', '{"model": 5}'])
def test_another_model_is_not_found(unkeyed: Gate, body: str) -> None:
    before = len(unkeyed.first.asked)
    answer = httpx2.post(f"{unkeyed.url}{CHAT}", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 404
    assert "this server has 'store'" in answer.json()["error"]["message"]
    assert len(unkeyed.first.asked) == before


@pytest.mark.parametrize("body", ["{}", "{broken", "", "[1]"])
def test_a_body_without_a_model_is_a_bad_request(unkeyed: Gate, body: str) -> None:
    before = len(unkeyed.first.asked)
    answer = httpx2.post(f"{unkeyed.url}{CHAT}", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "'model'" in answer.json()["error"]["message"]
    assert len(unkeyed.first.asked) == before


def test_a_request_that_is_too_large_is_refused(unkeyed: Gate) -> None:
    assert unkeyed.post(json={**BODY, "more": "x" * (1900 << 10)}).status_code == 200
    before = len(unkeyed.first.asked)
    answer = unkeyed.post(json={**BODY, "more": "x" * (2200 << 10)})
    assert answer.status_code == 413
    assert "larger" in answer.json()["error"]["message"]
    assert len(unkeyed.first.asked) == before


def test_the_listing_has_version_digest_and_origin(unkeyed: Gate) -> None:
    (model,) = httpx2.get(f"{unkeyed.url}/v1/models").json()["data"]
    assert model == {
        "id": "store",
        "object": "model",
        "created": 0,
        "owned_by": "fineline",
        "parent": "hf://a/b@c",
        "version": 1,
        "adapter_sha256": "abc",
        "run": "run-7",
    }


def test_a_streamed_answer_arrives_word_by_word(unkeyed: Gate) -> None:
    with httpx2.stream("POST", f"{unkeyed.url}{CHAT}", json={**BODY, "stream": True}, timeout=30) as answer:
        came = [(line, time.monotonic()) for line in answer.iter_lines() if line]
    assert [line for line, _ in came] == ["data: one", "data: two", "data: three"]
    assert came[1][1] - came[0][1] > 0.2


def test_the_statistics_port_serves_the_statistics_only(unkeyed: Gate) -> None:
    shown = f"http://127.0.0.1:{unkeyed.stats_port}"
    unkeyed.post()
    wait_for(lambda: read(httpx2.get(f"{shown}/metrics").text, unkeyed.first.upstream.cluster).buckets, 120)
    counted = read(httpx2.get(f"{shown}/metrics").text, unkeyed.first.upstream.cluster)
    assert counted.answers >= 1
    assert counted.failures == 0
    for path in ("/quitquitquit", "/config_dump", "/healthcheck/fail", "/metrics/../config_dump"):
        assert httpx2.post(f"{shown}{path}").status_code == 404
        assert httpx2.get(f"{shown}{path}").status_code == 404


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Gate]:
    yield from gates(tmp_path, "", requests_per_minute=3)


def test_requests_above_the_limit_are_told_when_to_try_again(limited: Gate) -> None:
    answers = [limited.post() for _ in range(5)]
    assert [answer.status_code for answer in answers].count(200) <= 3
    assert answers[-1].status_code == 429
    assert answers[-1].headers["retry-after"] == "20"
    assert "too many requests" in answers[-1].json()["error"]["message"]
    assert httpx2.get(f"{limited.url}/health").status_code == 200


def test_under_load_a_switch_fails_no_request_and_interrupts_no_answer(
    unkeyed: Gate,
) -> None:
    unkeyed.point(unkeyed.first)
    unkeyed.first.pause = unkeyed.second.pause = 0.05
    said: list[int] = []
    failed: list[str] = []
    over = threading.Event()

    def client() -> None:
        with httpx2.Client(base_url=unkeyed.url, timeout=30) as session:
            while not over.is_set():
                try:
                    said.append(session.post(CHAT, json=BODY).raise_for_status().json()["said_by"])
                except (httpx2.HTTPError, ValueError, KeyError) as error:
                    failed.append(repr(error))

    clients = [threading.Thread(target=client) for _ in range(8)]
    for one in clients:
        one.start()
    try:
        for at in (unkeyed.second, unkeyed.first) * 3:
            time.sleep(0.2)
            unkeyed.point(at)
            wanted = str(at.version)
            assert httpx2.get(f"{unkeyed.url}/health").headers["fineline-version"] == wanted
    finally:
        over.set()
        for one in clients:
            one.join()
        unkeyed.first.pause = unkeyed.second.pause = 0.0
    assert failed == []
    assert {1, 2} == set(said)


def test_new_rules_take_effect_while_it_serves(unkeyed: Gate) -> None:
    folder = Path(unkeyed.gateway.folder)
    wanted = gateway.write_listeners(folder, unkeyed.rules.model_copy(update={"request_bytes": 1000}), ["new"])
    gateway.wait_applied(unkeyed.admin, LISTENERS, wanted)
    wait_for(lambda: unkeyed.post().status_code == 401, 120)
    wanted = gateway.write_listeners(folder, unkeyed.rules, [])
    gateway.wait_applied(unkeyed.admin, LISTENERS, wanted)
    wait_for(lambda: unkeyed.post().status_code == 200, 120)


def test_two_keys_are_accepted_until_the_previous_one_is_dropped(
    unkeyed: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def status(key: str) -> int:
        return unkeyed.post(headers={"Authorization": f"Bearer {key}"}).status_code

    def serve(key: str, previous: str) -> None:
        monkeypatch.setenv("FINELINE_API_KEY", key)
        monkeypatch.setenv("FINELINE_API_KEY_PREVIOUS", previous)
        folder = Path(unkeyed.gateway.folder)
        wanted = gateway.write_listeners(folder, unkeyed.rules, cluster_settings.api_keys())
        gateway.wait_applied(unkeyed.admin, LISTENERS, wanted)

    serve("new", "old\n")
    wait_for(lambda: status("third") == 401, 120)
    assert (status("new"), status("old"), unkeyed.post().status_code) == (200, 200, 401)
    assert "authorization" not in unkeyed.first.headers[-1]
    serve("new", " ")
    wait_for(lambda: status("old") == 401, 120)
    assert status("new") == 200
    # Envoy refuses a list with the same key twice.
    serve("same", "same\n")
    wait_for(lambda: status("same") == 200, 120)
    assert status("new") == 401
    serve("", "old")
    wait_for(lambda: unkeyed.post().status_code == 200, 120)


def test_a_configuration_that_envoy_rejects_is_reported_and_the_earlier_one_stays(
    unkeyed: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "APPLIED_SECONDS", 2.0)
    folder = Path(unkeyed.gateway.folder)
    wanted = gateway.write_clusters(folder, Path("x" * 200), [unkeyed.first.upstream])
    with pytest.raises(RuntimeError, match=r"clusters\.json: cluster_manager\.cds\.update_rejected: 1"):
        gateway.wait_applied(unkeyed.admin, CLUSTERS, wanted)
    assert unkeyed.post().status_code == 200


def test_a_server_that_has_ended_is_reported_in_openais_form(unkeyed: Gate) -> None:
    gone = unkeyed.first.upstream.model_copy(update={"port": free_port(), "version": 9})
    folder, admin = Path(unkeyed.gateway.folder), Path(unkeyed.gateway.admin)
    gateway.wait_applied(unkeyed.admin, CLUSTERS, gateway.write_clusters(folder, admin, [unkeyed.first.upstream, gone]))
    gateway.wait_applied(unkeyed.admin, ROUTES, gateway.write_routes(folder, unkeyed.rules, gone))
    answer, counted = unkeyed.post(), read(unkeyed.admin.statistics(), gone.cluster)
    unkeyed.point(unkeyed.first)
    assert answer.status_code == 503
    assert "does not answer" in answer.json()["error"]["message"]
    assert counted.failures == 1


def test_no_request_is_lost_on_a_connection_that_the_server_closes_after_a_broken_answer(unkeyed: Gate) -> None:
    with httpx2.Client(base_url=unkeyed.url, timeout=30) as client:
        for _ in range(20):
            assert client.post(CHAT, json={**BODY, "breaks": True}).status_code == 500
            assert [client.post(CHAT, json=BODY).status_code for _ in range(2)] == [200, 200]


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[Gate]:
    yield from gates(tmp_path, "")


def test_before_it_ends_it_sends_its_clients_elsewhere_and_finishes_their_answers(ending: Gate) -> None:
    ending.first.pause = 2.0
    answered: list[httpx2.Response] = []
    asking = threading.Thread(target=lambda: answered.append(ending.post()))
    asking.start()
    wait_for(lambda: ending.admin.active_requests("http.gateway.downstream_rq_active"), 120)
    drain(ending.admin, 0.1, 30)
    asking.join(5)
    (answer,) = answered
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    with pytest.raises(httpx2.ConnectError):
        ending.post()


@pytest.mark.parametrize("keys", [[], ['a "quoted" key'], ["new", "old"]])
def test_envoy_validates_every_configuration(tmp_path: Path, keys: list[str]) -> None:
    rules = Rules(
        name="store",
        host="0.0.0.0",
        port=8080,
        stats_port=8081,
        answer_seconds=600,
        request_bytes=4 << 20,
        requests_per_minute=90,
    )
    upstream = Upstream(port=8000, version=1, run="r", base="b", adapter_sha256="a")
    gateway.write_all(tmp_path, tmp_path / "admin.sock", rules, keys, [upstream], upstream)
    done = subprocess.run(
        [*gateway.command(tmp_path), "--mode", "validate"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Envoy reports only in its log what it does not read at once.
    assert "deprecated" not in done.stderr


def test_connections_are_closed_after_seconds_so_that_clients_reach_the_pods_of_a_switched_service(
    unkeyed: Gate,
) -> None:
    closed = 0
    with httpx2.Client(base_url=unkeyed.url, timeout=30) as client:
        end = time.monotonic() + 8
        while time.monotonic() < end and not closed:
            answer = client.post(CHAT, json=BODY)
            assert answer.status_code == 200
            closed += answer.headers.get("connection") == "close"
            time.sleep(0.1)
    assert closed == 1
