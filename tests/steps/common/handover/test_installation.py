"""What an installation allows of a recipe: registries, Secrets, and whether an API key is required."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from recipes.reader import load
from recipes.recipe import Recipe
from steps.common.handover.installation import check_secrets, needs_api_key
from steps.common.registry import tracking
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError
from steps.plan.step import PlanInput, plan, resolve
from steps.release.step import ReleaseInput, release

PASSWORD = "mlflow-password-17"


@pytest.fixture
def in_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("team")
    monkeypatch.setenv("FINELINE_SERVE_IMAGE", "fineline-serve:0.1.0")
    monkeypatch.setattr(cluster_settings, "NAMESPACE_FILE", tmp_path / "namespace")


def recipe(**changes: str) -> Recipe:
    return load("pet-store", {key.replace("__", "."): value for key, value in changes.items()})


class Registry:
    """A web server that keeps what it is sent as authorization."""

    def __init__(self) -> None:
        self.given: list[str] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.given.append(self.headers.get("Authorization", ""))
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def passwords(self) -> set[str]:
        return {base64.b64decode(one.removeprefix("Basic ")).decode().partition(":")[2] for one in self.given if one}


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = Registry()
    yield registry
    registry.server.shutdown()
    registry.server.server_close()


@pytest.mark.usefixtures("in_cluster")
def test_no_step_of_a_cluster_talks_to_a_registry_that_a_recipe_names(
    other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINELINE_API_KEY_DEFAULT", "none")
    text = json.dumps(recipe(registry__tracking_uri=other.url).model_dump(mode="json"))
    with pytest.raises(
        UserError, match=r"^registry\.tracking_uri: this installation does not allow http://127"
    ) as error:
        plan(PlanInput(recipe=text, run="r"))
    assert "add the address to FINELINE_REGISTRIES" in str(error.value)
    # The exit handler runs after a plan that has refused, too.
    with contextlib.suppress(UserError):  # there is no cluster to give a node back to
        release(ReleaseInput(run="r", status="Failed", recipe=text))
    with pytest.raises(UserError):
        tracking.client(other.url)
    assert other.given == []


@pytest.mark.usefixtures("in_cluster")
def test_an_allowed_registry_gets_no_password(other: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINELINE_REGISTRIES", f"https://elsewhere.example.org, {other.url}/")
    with pytest.raises(UserError, match="is not an MLflow server"):
        tracking.client(other.url).search_experiments()
    assert other.given
    assert other.passwords() == set()


@pytest.mark.usefixtures("in_cluster")
def test_the_own_registry_gets_the_password(other: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other.url)
    with pytest.raises(UserError, match="is not an MLflow server"):
        tracking.client(other.url).search_experiments()
    assert other.passwords() == {PASSWORD}


def test_on_one_machine_a_recipe_names_its_registry(other: Registry) -> None:
    with pytest.raises(UserError, match="is not an MLflow server"):
        tracking.client(other.url).search_experiments()
    assert other.passwords() == {PASSWORD}


@pytest.mark.usefixtures("in_cluster")
def test_only_the_installations_secrets_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_secrets(recipe())
    with pytest.raises(
        UserError, match=r"^secrets: this installation does not allow the prefix 'finance'; use fineline"
    ):
        resolve(PlanInput(recipe=json.dumps(recipe(secrets="finance").model_dump(mode="json"))))
    monkeypatch.setenv("FINELINE_SECRETS", "fineline, finance")
    check_secrets(recipe(secrets="finance"))


@pytest.mark.usefixtures("in_cluster")
@pytest.mark.parametrize(
    ("wanted", "key", "had_one", "default", "needed"),
    [
        ("none", "", True, "required", False),
        ("none", "k", True, "required", False),
        ("required", "k", False, "none", True),
        ("auto", "k", False, "none", True),
        ("auto", "", False, "none", False),
        ("auto", "k", False, "", True),
        ("required", "", False, "none", None),
        ("auto", "", True, "none", None),
        ("auto", "", False, "required", None),
        ("auto", " \n", False, "", None),
    ],
)
def test_whether_a_key_is_required_in_a_cluster(
    wanted: str, key: str, had_one: bool, default: str, needed: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINELINE_API_KEY", key)
    monkeypatch.setenv("FINELINE_API_KEY_DEFAULT", default)
    given = recipe(serve__api_key=wanted)
    if needed is not None:
        assert needs_api_key(given, had_one=had_one) is needed
        return
    create = "kubectl create secret generic fineline-api-key -n team --from-literal=key=…"
    with pytest.raises(UserError, match=f"the Secret fineline-api-key is missing or empty; create it with '{create}'"):
        needs_api_key(given, had_one=had_one)


@pytest.mark.parametrize(
    ("wanted", "key", "had_one", "needed"),
    [
        ("auto", "", False, False),
        ("auto", "k", False, True),
        ("none", "k", True, False),
        ("required", "k", False, True),
        ("required", "", False, None),
        ("auto", "", True, None),
    ],
)
def test_whether_a_key_is_required_on_one_machine(
    wanted: str, key: str, had_one: bool, needed: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINELINE_API_KEY", key)
    given = recipe(serve__api_key=wanted)
    if needed is not None:
        assert needs_api_key(given, had_one=had_one) is needed
        return
    with pytest.raises(
        UserError, match=r"^serve\.api_key: pet-store requires an API key.* FINELINE_API_KEY is not set"
    ):
        needs_api_key(given, had_one=had_one)


@pytest.mark.usefixtures("in_cluster")
def test_a_plan_refuses_what_could_not_be_served_with_a_key() -> None:
    with pytest.raises(
        UserError, match=r"^serve\.api_key: pet-store requires an API key, and the Secret fineline-api-key"
    ):
        resolve(PlanInput(recipe="pet-store"))
