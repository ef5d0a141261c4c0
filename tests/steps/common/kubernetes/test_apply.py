"""What is sent to the API server to apply and to delete an object: nothing before its owner is known."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from steps.common.kubernetes import client, resource
from steps.common.kubernetes.api_errors import ConflictError, ForbiddenError
from steps.common.kubernetes.owner import ForeignObjectError
from steps.common.kubernetes.resource import Resource, apply
from steps.common.runtime.errors import UserError

OWNER = {"fineline.dev/model": "store"}
BUDGET = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a", "labels": OWNER}}
BUDGETS = Resource("policy", "poddisruptionbudgets", "v1")
FORBIDDEN = 'poddisruptionbudgets "a" is forbidden: User "b" cannot {} resource'


class Handler(BaseHTTPRequestHandler):
    there: dict[str, Any] | None = None  # the metadata of the object
    may_read = True
    status = 201
    refusal = ""
    changes: list[str] = []  # who changes the object between a read and a write
    asked: list[tuple[str, Any]] = []

    def do_GET(self) -> None:
        self.asked.append(("GET", None))
        if not self.may_read:
            self._answer(403, {"message": FORBIDDEN.format("get")})
        elif self.there is None:
            self._answer(404, {"message": "not found"})
        else:
            self._answer(200, {"kind": "PodDisruptionBudget", "metadata": self.there})

    def do_PATCH(self) -> None:
        sent = self._body()
        forced = parse_qs(urlsplit(self.path).query)["force"] == ["true"]
        self.asked.append(("PATCH", (sent["metadata"].get("uid"), sent["metadata"].get("resourceVersion"), forced)))
        if self.refusal:
            self._answer(self.status, {"message": self.refusal})
        elif self._has_changed():
            self._answer(409, {"message": "the object has been modified"})
        else:
            self._answer(self.status, {**sent, "metadata": {**sent["metadata"], "uid": "1"}})

    def do_DELETE(self) -> None:
        conditions = self._body()["preconditions"]
        self.asked.append(("DELETE", (conditions["uid"], conditions["resourceVersion"])))
        if self._has_changed():
            self._answer(409, {"message": "the object has been modified"})
        else:
            self._answer(202, {})

    def _body(self) -> Any:
        return yaml.safe_load(self.rfile.read(int(self.headers["Content-Length"])))

    def _has_changed(self) -> bool:
        if not self.changes:
            return False
        type(self).there = metadata(self.changes.pop(0), "2")
        return True

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def metadata(model: str, version: str = "1") -> dict[str, Any]:
    return {"name": "a", "uid": "1", "resourceVersion": version, "labels": {"fineline.dev/model": model}}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Handler]]:
    class Fresh(Handler):
        changes: list[str] = []
        asked: list[tuple[str, Any]] = []

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


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "PAUSE_SECONDS", 0)


@pytest.mark.parametrize("status", [200, 201])
def test_what_does_not_exist_is_created_without_taking_a_field_from_anybody(server: type[Handler], status: int) -> None:
    server.status = status
    assert apply(BUDGET, "shop", owner=OWNER)["metadata"]["uid"] == "1"
    assert server.asked == [("GET", None), ("PATCH", (None, None, False))]


def test_what_exists_is_changed_only_as_it_was_when_its_owner_was_read(server: type[Handler]) -> None:
    server.there = metadata("store")
    apply(BUDGET, "shop", owner=OWNER)
    assert BUDGETS.delete("a", "shop", owner=OWNER)
    assert [one for one in server.asked if one[0] != "GET"] == [("PATCH", ("1", "1", True)), ("DELETE", ("1", "1"))]


def test_what_belongs_to_somebody_else_is_refused_in_one_line_and_not_touched(server: type[Handler]) -> None:
    server.there = metadata("desk")
    why = (
        "PodDisruptionBudget a belongs to somebody else: its label fineline.dev/model is desk, not store; it has been left as "
        "it is: rename or delete it, or choose another name for yours"
    )
    for write in (
        lambda: apply(BUDGET, "shop", owner=OWNER),
        lambda: BUDGETS.patch("a", {}, "shop", owner=OWNER),
        lambda: BUDGETS.delete("a", "shop", owner=OWNER),
    ):
        with pytest.raises(ForeignObjectError) as caught:
            write()
        assert str(caught.value) == why
    del server.there["labels"]
    with pytest.raises(ForeignObjectError, match=r"it has no label fineline\.dev/model=store"):
        apply(BUDGET, "shop", owner=OWNER)
    assert {method for method, _ in server.asked} == {"GET"}


@pytest.mark.parametrize("there", [None, metadata("store")])
def test_an_owner_that_changes_between_the_look_and_the_write_is_noticed(
    server: type[Handler], there: dict[str, Any] | None
) -> None:
    server.there, server.changes[:] = there, ["desk"]
    with pytest.raises(ForeignObjectError):
        apply(BUDGET, "shop", owner=OWNER)
    server.there, server.changes[:] = metadata("store"), ["store", "desk"]
    with pytest.raises(ForeignObjectError):
        BUDGETS.delete("a", "shop", owner=OWNER)


def test_a_change_by_others_that_leaves_the_owner_does_not_stop_a_write(server: type[Handler]) -> None:
    server.there, server.changes[:] = metadata("store"), ["store"] * 3
    apply(BUDGET, "shop", owner=OWNER)
    assert server.asked[-1] == ("PATCH", ("1", "2", True))
    server.changes[:] = ["store"] * 100
    with pytest.raises(ConflictError):
        apply(BUDGET, "shop", owner=OWNER)


def test_without_the_permission_to_look_nothing_is_written(server: type[Handler]) -> None:
    server.may_read = False
    with pytest.raises(ForbiddenError, match=r'^the Kubernetes API answers: .* User "b" cannot get resource$'):
        apply(BUDGET, "shop", owner=OWNER)
    assert server.asked == [("GET", None)]


def test_an_apply_that_is_refused_is_one_line(server: type[Handler]) -> None:
    server.status, server.refusal = 403, FORBIDDEN.format("patch")
    with pytest.raises(ForbiddenError, match=r'^the Kubernetes API answers: .* User "b" cannot patch resource$'):
        apply(BUDGET, "shop", owner=OWNER)
    server.status, server.refusal = 422, "spec is\ninvalid"
    with pytest.raises(UserError, match=r"^the Kubernetes API answers: spec is invalid$"):
        apply(BUDGET, "shop", owner=OWNER)
