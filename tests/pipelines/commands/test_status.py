"""`fineline status`: which of a namespace's runs it lists."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.cluster import argo_server
from pipelines.command import main
from pipelines.workflows.rendered import BUILDERS

HOUSEKEEPING = {"prune", "reaper", "receive", "recover"}
STARTED_BY_PEOPLE = {
    "backup",
    "cache",
    "finetune",
    "retrain",
    "rollback",
    "stop-serving",
}  # the last one through the API


def run(template: str, number: int, phase: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{template}-{number}", "creationTimestamp": f"2026-11-0{number}T00:00:00Z"},
        "spec": {"workflowTemplateRef": {"name": template}},
        "status": {"phase": phase} if phase else {},
    }


def listed(runs: list[dict[str, Any]], patch: pytest.MonkeyPatch, capsys: Any, *options: str) -> list[str]:
    connection = SimpleNamespace(namespace="ml", runs=lambda: runs)
    patch.setattr(argo_server, "connect", lambda *_: connection)
    assert main(["status", "-n", "ml", "--json", *options]) == 0
    return [one["run"] for one in json.loads(capsys.readouterr().out)]


def test_every_template_is_one_of_peoples_or_of_housekeeping() -> None:
    assert {name for name in BUILDERS if not name.endswith("-cron")} == HOUSEKEEPING | STARTED_BY_PEOPLE


@pytest.mark.parametrize("phase", ["", "Running", "Succeeded"])
def test_what_people_run_is_listed_and_housekeeping_is_not(
    phase: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run(template, 1, phase) for template in sorted(HOUSEKEEPING | STARTED_BY_PEOPLE)]
    assert listed(runs, monkeypatch, capsys) == [f"{template}-1" for template in sorted(STARTED_BY_PEOPLE)]
    assert len(listed(runs, monkeypatch, capsys, "--all")) == len(runs)


@pytest.mark.parametrize("phase", ["Failed", "Error"])
def test_housekeeping_that_has_failed_is_listed_among_the_rest_by_age(
    phase: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run("finetune", 1, "Succeeded"), run("recover", 2, phase), run("finetune", 3, "Failed")]
    assert listed(runs, monkeypatch, capsys) == ["finetune-3", "recover-2", "finetune-1"]


def test_a_namespace_with_nothing_but_housekeeping_has_no_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = SimpleNamespace(namespace="ml", runs=lambda: [run("recover", 1, "Succeeded")])
    monkeypatch.setattr(argo_server, "connect", lambda *_: connection)
    assert main(["status", "-n", "ml"]) == 0
    assert "no runs in namespace ml; start one with:" in capsys.readouterr().out
