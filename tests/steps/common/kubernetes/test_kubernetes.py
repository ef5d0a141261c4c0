"""What a step makes of an API server that is busy, refuses, or is not there."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cluster.doctor.argo import kubernetes

LOOK = """
from steps.common.kubernetes import api as kubernetes
kubernetes.TRIES, kubernetes.LONGEST_PAUSE_SECONDS = 3, 0.1
try:
    with kubernetes.in_one_line():
        print(len(kubernetes.core().list_namespace().items))
except kubernetes.UserError as error:
    print(type(error).__name__, error)
"""


class Server:
    """An API server that answers with these statuses, the last one for ever."""

    def __init__(self, statuses: list[int]) -> None:
        self.asked = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status = statuses[min(server.asked, len(statuses) - 1)]
                server.asked += 1
                good: dict[str, Any] = {"kind": "NamespaceList", "apiVersion": "v1", "items": []}
                body = json.dumps(good if status == 200 else {"message": "namespaces are\nnot for you"}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.http.shutdown()
    server.http.server_close()


def look(folder: Path, port: int) -> str:
    """Ask for the namespaces, in a process of its own: a client is set up once a process."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "a", "user": {"token": "x"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        env={**os.environ, "KUBECONFIG": str(file)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("served", [[503, 429, 200]], indirect=True)
def test_one_that_is_busy_is_asked_again(served: Server, tmp_path: Path) -> None:
    assert look(tmp_path, served.http.server_port) == "0"
    assert served.asked == 3


@pytest.mark.parametrize(
    ("served", "told", "asked"),
    [
        ([403], "ForbiddenError the cluster answers: namespaces are not for you", 1),
        ([409], "UserError the cluster answers: namespaces are not for you", 1),
        ([500], "UserError the cluster answers: namespaces are not for you", 4),
    ],
    indirect=["served"],
)
def test_what_it_refuses_is_one_line(served: Server, tmp_path: Path, told: str, asked: int) -> None:
    assert look(tmp_path, served.http.server_port) == told
    assert served.asked == asked


def test_one_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    server = Server([200])
    port = server.http.server_port
    server.http.shutdown()
    server.http.server_close()
    told = look(tmp_path, port)
    assert told.startswith("UserError the cluster does not answer: ")
    assert "\n" not in told


@pytest.mark.parametrize(
    ("version", "state"),
    [("v1.28.15", "missing"), ("v1.29.0", "ok"), ("v1.31.2-gke.100", "ok"), ("v2.0.1", "ok"), ("unknown", "ok")],
)
def test_a_kubernetes_that_is_too_old_for_sidecars_is_told(version: str, state: str) -> None:
    found = kubernetes(version, "kind")
    assert found.state == state
    assert version in found.text
