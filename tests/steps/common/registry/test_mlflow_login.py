"""A real MLflow with the component `mlflow-auth`: its arguments, its settings and its probe, on this machine."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from steps.common.registry import tracking

ROOT = Path(__file__).parents[4]
COMPONENT = ROOT / "argo" / "components" / "mlflow-auth"
LOGIN = {"MLFLOW_AUTH_ADMIN_USERNAME": "fineline", "MLFLOW_AUTH_ADMIN_PASSWORD": "a password of a test"}


def _patches() -> list[dict[str, object]]:
    text = yaml.safe_load((COMPONENT / "kustomization.yaml").read_text())["patches"][1]["patch"]
    found: list[dict[str, object]] = yaml.safe_load(text)
    return found


def _probe(port: int, login: dict[str, str]) -> int:
    (probe,) = [patch["value"] for patch in _patches() if str(patch["path"]).endswith("/readinessProbe")]
    _, option, script = probe["exec"]["command"]  # type: ignore[index]
    command = [sys.executable, option, script.replace("127.0.0.1:5000", f"127.0.0.1:{port}")]
    return subprocess.run(command, env=os.environ | login, capture_output=True, timeout=60).returncode


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    pytest.importorskip("flask_wtf")
    folder = tmp_path_factory.mktemp("mlflow")
    settings = yaml.safe_load((COMPONENT / "settings.yaml").read_text())["data"]["basic_auth.ini"]
    (folder / "basic_auth.ini").write_text(settings.replace("/tmp/", f"{folder}/"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    (app,) = [str(patch["value"]) for patch in _patches() if str(patch["path"]).endswith("/args/-")]
    environment = {
        **os.environ,
        **LOGIN,
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of a test",
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    names = "--allowed-hosts=localhost:*,127.0.0.1:*,fineline-mlflow"
    command = [sys.executable, "-m", "mlflow", "server", f"--port={port}", "--workers=1", names, app]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 600
        while _probe(port, LOGIN) != 0:
            assert server.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(1)
        yield port
    finally:
        server.terminate()
        server.wait(30)


def test_only_who_has_the_password_may_ask(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tracking.client(f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "fineline")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a password of a test")
    store.create_registered_model("tiny")
    assert [model.name for model in store.search_registered_models()] == ["tiny"]
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "another")
    with pytest.raises(Exception, match="401"):
        store.set_registered_model_tag("tiny", "owner", "me")
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    with pytest.raises(Exception, match="401"):
        store.search_registered_models()


def test_a_pod_with_another_password_than_its_server_is_not_ready(port: int) -> None:
    assert _probe(port, LOGIN | {"MLFLOW_AUTH_ADMIN_PASSWORD": "another"}) != 0
