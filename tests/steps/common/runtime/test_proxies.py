"""A proxy is for the internet: this machine and Services are asked without it, whichever library asks."""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from steps.common.runtime.proxies import bypass_proxies, proxied
from steps.common.web.web_client import web_client
from steps.rollout.places.processes import _answers
from steps.rollout.pods import version_objects
from steps.rollout.trial.ask import ask
from tests.steps.rollout.checks.test_rollout_needs import served
from tests.steps.rollout.gateway.test_gateway import gates


class Answering:
    """A server that answers every request alike, and counts them."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.asked: list[str] = []
        answering = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answering.asked.append(self.path)
                sent = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.do_GET()

            def do_CONNECT(self) -> None:
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    made = Answering(502, {"error": "the proxy does not know this host"})
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, made.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield made
    made.close()


def test_a_gateway_starts_and_is_asked_without_the_proxy(proxy: Answering, tmp_path: Path) -> None:
    for gate in gates(tmp_path / "runs", ""):  # it waits until the gateway answers
        assert _answers(f"{gate.url}/health")
        with pytest.raises(Exception, match="choices"):  # the server behind it says something else
            ask(gate.gateway.url, "store", [{"role": "user", "content": "hello"}], 8, 5)
    assert proxy.asked == []


def test_the_internet_is_asked_through_the_proxy(proxy: Answering) -> None:
    bypass_proxies()
    with web_client() as client:
        assert client.get("http://rows.example.org/x").status_code == 502
    assert proxy.asked == ["http://rows.example.org/x"]


def test_a_step_asks_mlflow_on_this_machine_without_the_proxy(proxy: Answering, tmp_path: Path) -> None:
    registry = Answering(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such model"})
    given = {"name": "m", "version": "1", "force": "false", "run": "back-1", "hold_hours": "1"}
    inputs = [{"name": name, "value": value} for name, value in given.items()]
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    command = [sys.executable, "-m", "hera.workflows.runner", "-e", "steps.restore.step:restore"]
    own = {"hera__outputs_directory": str(tmp_path / "outputs"), "MLFLOW_TRACKING_URI": registry.url}
    own |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    subprocess.run([*command, str(tmp_path / "inputs.json")], env={**os.environ, **own}, check=False)
    registry.close()
    assert registry.asked
    assert proxy.asked == []


def test_the_probes_of_a_served_pod_ask_no_proxy(proxy: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Answering(200, {"status": "ok"})
    monkeypatch.setattr(version_objects, "SERVER_PORT", server.port)
    (container,) = served(60, 600)["spec"]["template"]["spec"]["initContainers"]
    probe = [sys.executable, *container["startupProbe"]["exec"]["command"][1:]]
    assert subprocess.run(probe, check=False).returncode == 0
    server.close()
    assert server.asked == ["/health"]
    assert proxy.asked == []


@pytest.mark.usefixtures("proxy")
def test_what_the_user_excludes_stays_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet.example.org")
    bypass_proxies()
    bypass_proxies()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "intranet.example.org,localhost,127.0.0.1,::1"
    assert not proxied("http://intranet.example.org/x")
    assert not proxied("http://localhost:5000")
    assert proxied("https://huggingface.co/x")


@pytest.mark.usefixtures("proxy")
def test_in_a_cluster_services_and_the_api_server_are_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINELINE_SERVE_IMAGE", "fineline-serve:0.1.0")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://fineline-mlflow")
    monkeypatch.setenv("HF_ENDPOINT", "https://huggingface.co")
    bypass_proxies()
    for direct in (
        "http://fineline-mlflow",
        "http://pet-store.fineline.svc/v1",
        "https://10.96.0.1:443",
        "http://a.b.svc",
    ):
        assert not proxied(direct)
        assert urllib.request.proxy_bypass(direct.partition("://")[2].partition("/")[0])
        # httpx reads NO_PROXY in its own way.
        transport = httpx2.Client()._transport_for_url(httpx2.URL(direct))
        assert not hasattr(transport._pool, "_proxy_url"), direct  # type: ignore[attr-defined]
    assert proxied("https://huggingface.co/x")
