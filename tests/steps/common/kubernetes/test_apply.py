"""Server-side apply to an API server that lets an account create and patch objects, but not read them."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import ForbiddenError
from steps.common.kubernetes.resource import apply
from steps.common.runtime.errors import UserError

BUDGET = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a"}}
FORBIDDEN = 'poddisruptionbudgets "a" is forbidden: User "b" cannot {} resource'


class Handler(BaseHTTPRequestHandler):
    status = 201
    refusal = ""
    methods: list[str] = []

    def do_GET(self) -> None:
        self._answer(403, {"message": FORBIDDEN.format("get")})

    def do_PATCH(self) -> None:
        sent = yaml.safe_load(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refusal:
            self._answer(self.status, {"message": self.refusal})
        else:
            self._answer(self.status, {**sent, "metadata": {**sent["metadata"], "uid": "1"}})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self.methods.append(self.command)
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Handler]]:
    class Fresh(Handler):
        methods: list[str] = []

    http = ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{http.server_port}"}}],
        "users": [{"name": "a", "user": {"token": "x"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    # The client reads KUBECONFIG when it is imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    monkeypatch.setattr(client._Process, "api_client", None)
    yield Fresh
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize("status", [200, 201])
def test_what_is_applied_is_returned_without_the_permission_to_read_it(server: type[Handler], status: int) -> None:
    server.status = status
    assert apply(BUDGET, "shop")["metadata"] == {"name": "a", "uid": "1"}
    assert server.methods == ["PATCH"]


def test_an_apply_that_is_refused_is_one_line(server: type[Handler]) -> None:
    server.status, server.refusal = 403, FORBIDDEN.format("patch")
    with pytest.raises(ForbiddenError, match=r'^the Kubernetes API answers: .* User "b" cannot patch resource$'):
        apply(BUDGET, "shop")
    server.status, server.refusal = 422, "spec is\ninvalid"
    with pytest.raises(UserError, match=r"^the Kubernetes API answers: spec is invalid$"):
        apply(BUDGET, "shop")
