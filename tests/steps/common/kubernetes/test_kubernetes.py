"""Requests to an API server that is busy, refuses, or does not exist."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cluster.doctor.argo import kubernetes
from steps.common.kubernetes.client import connect_with_kubeconfig
from steps.common.runtime.errors import UserError

LIST = "print(len(client.core().list_namespace().items))"
FORWARD = "portforward(client.core().connect_get_namespaced_pod_portforward, 'pod', 'space', ports='80')"
ASK = """
from dataclasses import replace
from kubernetes.stream import portforward
from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import api_errors
from steps.common.runtime.errors import UserError
client.STEP_RETRIES = replace(client.STEP_RETRIES, tries=3, longest_pause_seconds=0.1)
try:
    if {by_command}:
        client.connect_with_kubeconfig()
    with api_errors():
        {ask}
except UserError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("content", ["text", "a: [b", "- 1", None])
def test_what_is_not_a_kubeconfig_is_one_line(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config"
    file.mkdir() if content is None else file.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(file))
    with pytest.raises(UserError, match=r"^kubeconfig: .*point KUBECONFIG at "):
        connect_with_kubeconfig()


class Server:
    """An API server that answers with these statuses in turn, and keeps repeating the last one."""

    message = "namespaces are\nnot for you"

    def __init__(self, statuses: list[int]) -> None:
        self.asked = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status = statuses[min(server.asked, len(statuses) - 1)]
                server.asked += 1
                good: dict[str, Any] = {"kind": "NamespaceList", "apiVersion": "v1", "items": []}
                body = json.dumps(good if status == 200 else {"message": server.message}).encode()
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


def list_namespaces(folder: Path, port: int, *, by_command: bool = False, host: str = "127.0.0.1") -> str:
    """List the namespaces, and return how many there are, or the error."""
    return asked(LIST, folder, port, by_command=by_command, host=host)


def asked(ask: str, folder: Path, port: int, *, by_command: bool = False, host: str = "127.0.0.1") -> str:
    """Ask in a separate process, because a process connects once, and return what it prints."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "a", "cluster": {"server": f"http://{host}:{port}"}}],
        "users": [{"name": "a", "user": {"token": "x"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(by_command=by_command, ask=ask)],
        env={**os.environ, "KUBECONFIG": str(file)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("served", [[503, 429, 200]], indirect=True)
def test_one_that_is_busy_is_asked_again(served: Server, tmp_path: Path) -> None:
    assert list_namespaces(tmp_path, served.http.server_port) == "0"
    assert served.asked == 3


@pytest.mark.parametrize(
    ("served", "told", "asked"),
    [
        ([403], "ClusterError the Kubernetes API answers: namespaces are not for you", 1),
        ([404], "NotFoundError the Kubernetes API answers: namespaces are not for you", 1),
        ([409], "ConflictError the Kubernetes API answers: namespaces are not for you", 1),
        ([500], "UnansweredError the Kubernetes API answers: namespaces are not for you", 4),
    ],
    indirect=["served"],
)
def test_what_it_refuses_is_one_line(served: Server, tmp_path: Path, told: str, asked: int) -> None:
    assert list_namespaces(tmp_path, served.http.server_port) == told
    assert served.asked == asked


def test_one_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    server = Server([200])
    port = server.http.server_port
    server.http.shutdown()
    server.http.server_close()
    told = list_namespaces(tmp_path, port)
    assert told.startswith("UnansweredError cannot reach the cluster: ")
    assert "\n" not in told


@pytest.mark.parametrize("served", [[403]], indirect=True)
@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('namespaces is forbidden: User "a" cannot list resource "namespaces"', "ForbiddenError"),
        ('pods "a" is forbidden: exceeded quota: small', "ClusterError"),
    ],
)
def test_what_admission_refuses_is_no_lack_of_permission(
    served: Server, tmp_path: Path, message: str, kind: str
) -> None:
    served.message = message
    assert list_namespaces(tmp_path, served.http.server_port) == f"{kind} the Kubernetes API answers: {message}"


@pytest.mark.parametrize("served", [[403]], indirect=True)
def test_that_a_port_may_not_be_forwarded_is_known_for_what_it_is(served: Server, tmp_path: Path) -> None:
    """The client calls it an error with the status 0, and puts the answer with all of its headers into its text."""
    served.message = 'pods "pod" is forbidden: User "a" cannot get resource "pods/portforward"'
    told = asked(FORWARD, tmp_path, served.http.server_port)
    assert told == f"ForbiddenError the Kubernetes API answers: {served.message}"


@pytest.mark.parametrize("served", [[503, 200]], indirect=True)
def test_the_command_tries_again_too(served: Server, tmp_path: Path) -> None:
    assert list_namespaces(tmp_path, served.http.server_port, by_command=True) == "0"
    assert served.asked == 2


def test_the_command_does_not_wait_minutes_for_a_dead_cluster(tmp_path: Path) -> None:
    """192.0.2.1 is reserved for documentation (RFC 5737): nothing answers there."""
    began = time.monotonic()
    told = list_namespaces(tmp_path, 1, by_command=True, host="192.0.2.1")
    assert told.startswith("UnansweredError cannot reach the cluster: ")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("version", "state"),
    [("v1.29.15", "missing"), ("v1.30.0", "ok"), ("v1.31.2-gke.100", "ok"), ("v2.0.1", "ok"), ("unknown", "ok")],
)
def test_a_kubernetes_that_is_too_old_for_sidecars_is_told(version: str, state: str) -> None:
    found = kubernetes(version, "kind")
    assert found.state == state
    assert version in found.text
