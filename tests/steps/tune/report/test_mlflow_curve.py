"""A training's curve in a real MLflow that dies and comes back: logging never waits, and what was logged meanwhile arrives."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from steps.common.registry import tracking
from steps.tune.report import mlflow_curve
from steps.tune.report.mlflow_curve import LossCurve
from tests.support.registry import RegistryProxy, mlflow_server

LONGEST_LOG_SECONDS = 0.25  # on a busy machine; a request that fails takes seconds


@pytest.fixture(scope="module")
def mlflow_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with mlflow_server(tmp_path_factory.mktemp("registry")) as port:
        yield port


@pytest.fixture
def registry(mlflow_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryProxy]:
    monkeypatch.setattr(mlflow_curve, "SEND_SECONDS", 0.1)
    monkeypatch.setattr(mlflow_curve, "LONGEST_WAIT_SECONDS", 0.5)
    proxy = RegistryProxy(mlflow_port)
    yield proxy
    proxy.close()


def curve_of(uri: str, run: str) -> LossCurve:
    resolved: Any = SimpleNamespace(tracking=SimpleNamespace(uri=uri, run_id=run))
    return LossCurve(resolved)


def longest_of(curve: LossCurve, steps: range) -> float:
    """Log steps as a training does, and return how long the slowest call took in seconds."""
    longest = 0.0
    for step in steps:
        began = time.perf_counter()
        curve.log(step, {"loss": 1.0 / (step + 1), "grad_norm": 1.0})
        longest = max(longest, time.perf_counter() - began)
        time.sleep(0.02)
    return longest


@pytest.mark.parametrize("fault", [500, 401, "hang", "reset"])
def test_mlflow_may_die_in_the_midst_of_a_training_and_come_back(
    registry: RegistryProxy, fault: int | str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = tracking.client(registry.uri)
    run = client.create_run(tracking.experiment(client, f"pets-{fault}")).info.run_id
    curve = curve_of(registry.uri, run)
    assert longest_of(curve, range(20)) < LONGEST_LOG_SECONDS
    registry.fault = fault
    assert longest_of(curve, range(20, 120)) < LONGEST_LOG_SECONDS
    registry.fault = 0
    assert longest_of(curve, range(120, 140)) < LONGEST_LOG_SECONDS
    registry.ended.set()
    curve.close()
    history = client.get_metric_history(run, "tune/loss")
    assert sorted({point.step for point in history}) == list(range(140))
    assert capsys.readouterr().err.count("the training goes on without its curve in MLflow") <= 2


def test_an_mlflow_that_stays_away_costs_the_training_a_few_seconds_at_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mlflow_curve, "SEND_SECONDS", 0.1)
    registry = RegistryProxy()
    registry.fault = "hang"
    curve = curve_of(registry.uri, "0" * 32)
    assert longest_of(curve, range(50)) < LONGEST_LOG_SECONDS
    began = time.monotonic()
    curve.close()
    assert time.monotonic() - began < mlflow_curve.LAST_SECONDS + 2
    assert "the end of the training's curve did not reach MLflow" in capsys.readouterr().err
    registry.close()


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_curve, "MOST_POINTS", 30)
    curve = curve_of("http://127.0.0.1:1", "0" * 32)
    longest_of(curve, range(100))
    assert len(curve._pending) <= 30
    assert curve._pending[-1][3] == 99


def test_a_run_that_is_not_tracked_has_no_curve() -> None:
    curve = curve_of("http://127.0.0.1:1", "")
    assert longest_of(curve, range(3)) < LONGEST_LOG_SECONDS
    curve.close()
