"""What an MLflow that fails looks like: absent is only what it says does not exist; the rest is the user's, or a lost place."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steps.common.registry import tracking, versions
from steps.common.registry.registry_errors import NotInRegistryError
from steps.common.runtime.errors import UnreachableError, UserError
from steps.restore.step import RestoreInput, restore
from tests.support.registry import RegistryProxy, mlflow_server


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProxy]:
    with mlflow_server(tmp_path_factory.mktemp("registry")) as port:
        proxy = RegistryProxy(port)
        yield proxy
        proxy.close()


@pytest.fixture(autouse=True)
def _sound(registry: RegistryProxy) -> Iterator[None]:
    yield
    registry.fault = 0


@pytest.fixture(params=["server", "sqlite"])
def store(request: pytest.FixtureRequest, registry: RegistryProxy) -> tracking.RegistryClient:
    uri = registry.uri if request.param == "server" else tracking.default_uri()
    return tracking.client(uri, tracking.QUICK)


ASK: dict[str, Callable[[Any], Any]] = {
    "version_at": lambda store: versions.version_at(store, "pets", versions.CHAMPION),
    "version_of": lambda store: versions.version_of(store, "pets", "a", "b"),
    "champion_before": lambda store: versions.champion_before(store, "pets"),
    "refused_run": lambda store: versions.refused_run(store, "pets", "digest", 1),
    "experiment": lambda store: tracking.experiment(store, "pets"),
}


def test_what_does_not_exist_is_none(store: tracking.RegistryClient) -> None:
    name = f"pets-{time.time_ns()}"
    assert versions.version_at(store, name, versions.CHAMPION) is None
    assert versions.version_of(store, name, "a", "b") is None
    assert versions.champion_before(store, name) is None
    assert versions.refused_run(store, name, "digest", 1) == ""
    store.create_registered_model(name)
    assert versions.version_at(store, name, versions.CHAMPION) is None  # the alias
    with pytest.raises(NotInRegistryError, match="version=7"):
        store.get_model_version(name, "7")


@pytest.mark.parametrize("fault", [500, 502, 503, 429, "reset"])
@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_a_registry_that_fails_has_not_said_that_there_is_none(
    registry: RegistryProxy, ask: Callable[[Any], Any], fault: int | str
) -> None:
    registry.fault = fault
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=f"the registry {registry.uri} did not answer: ") as told:
        ask(tracking.client(registry.uri, tracking.QUICK))
    assert time.monotonic() - began < 20
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("fault", "line"), [(401, "refuses the login"), (403, "denies access"), (404, "is not an MLflow server")]
)
@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_a_refused_login_and_a_wrong_address_are_the_users(
    registry: RegistryProxy, ask: Callable[[Any], Any], fault: int, line: str
) -> None:
    registry.fault, registry.asked = fault, 0
    with pytest.raises(UserError, match=line) as told:
        ask(tracking.client(registry.uri))
    assert registry.asked == 1
    assert "\n" not in str(told.value)


def test_a_registry_that_hangs_is_given_up_in_seconds(registry: RegistryProxy) -> None:
    registry.fault = "hang"
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=r"did not answer: .*timed out"):
        ASK["version_at"](tracking.client(registry.uri, tracking.BRIEF))
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("uri", "error", "line"),
    [
        ("http://127.0.0.1:1", UnreachableError, "Connection refused"),
        ("http://someone:secret@127.0.0.1:1", UnreachableError, r"the registry http://127.0.0.1:1 did not answer"),
        ("http://nowhere.invalid", UserError, "no such host; check registry.tracking_uri"),
        ("foo://somewhere", UserError, "unsupported URI"),
    ],
)
def test_an_address_without_a_registry_is_one_line(uri: str, error: type[Exception], line: str) -> None:
    with pytest.raises(error, match=line) as told:
        ASK["version_at"](tracking.client(uri, tracking.BRIEF))
    assert "\n" not in str(told.value)
    assert "secret" not in str(told.value)


def test_an_experiment_that_was_deleted_is_restored_by_the_line_that_is_printed(
    store: tracking.RegistryClient, tmp_path: Path
) -> None:
    import shlex
    import subprocess
    import sys

    name = f"pets-{time.time_ns()}"
    number = tracking.experiment(store, name)
    store.delete_experiment(number)
    with pytest.raises(UserError, match=f"the experiment '{name}' was deleted in MLflow; restore it with: ") as told:
        tracking.experiment(store, name)
    setting, _, *words = shlex.split(str(told.value).partition("restore it with: ")[2])
    subprocess.run(
        [sys.executable, "-m", "mlflow", *words], env={**_environ(), **dict([setting.split("=", 1)])}, check=True
    )
    assert tracking.experiment(store, name) == number


def _environ() -> dict[str, str]:
    import os

    return dict(os.environ)


def test_a_rollback_does_not_take_an_outage_for_an_absent_version(
    registry: RegistryProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    monkeypatch.setattr(tracking, "PATIENT", tracking.BRIEF)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    registry.fault = 503
    for version in ("", "3"):
        with pytest.raises(UnreachableError):
            restore(RestoreInput(name="pets", version=version))
    registry.fault = 0
    with pytest.raises(UserError, match="pets has no version 3; no model of that name is registered"):
        restore(RestoreInput(name="pets", version="3"))


def test_what_only_tells_says_so_and_goes_on(registry: RegistryProxy, capsys: pytest.CaptureFixture[str]) -> None:
    registry.fault = 500
    store = tracking.client(registry.uri, tracking.BRIEF)
    with tracking.telling("the evaluation"):
        store.set_tag("0" * 32, "a", "b")
    assert "could not record the evaluation in MLflow: the registry" in capsys.readouterr().err


def test_the_settings_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    with tracking.patient(tracking.BRIEF):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
