"""Candidates that really are better, worse or the same, tuned and judged by the steps themselves. Two-layer model."""

import json
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from recipes.read import load
from steps.common import tracking, volumes
from steps.common.resolved import Hardware
from steps.evaluate.step import EvaluateInput, EvaluateOutput, evaluate
from steps.plan.check import CheckInput, check
from steps.plan.step import PlanInput, plan
from steps.prepare.step import PrepareInput, prepare
from steps.register.step import RegisterInput, register
from steps.tune.step import TuneInput, tune
from tests.pipeline.commands import write_recipe

TOPICS = ("cats", "dogs", "fish", "birds", "hamsters", "food")
ANSWERS = ("monday", "no", "happy tails", "yes we do", "in a day", "it is open")


def write(file: Path, rows: int, seed: int, *, shuffled: bool = False) -> Path:
    """Write chats in which the topic alone decides the answer; shuffled, any answer may follow any topic."""
    generator = random.Random(seed)
    topics = [generator.randrange(len(TOPICS)) for _ in range(rows)]
    said = [ANSWERS[topic] for topic in topics]
    if shuffled:
        generator.shuffle(said)
    with file.open("w") as out:
        for number, (topic, answer) in enumerate(zip(topics, said, strict=True)):
            asked = f"{number + 1000 * seed} do you have {TOPICS[topic]}"
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            out.write(json.dumps({"messages": turns}) + "\n")
    return file


@dataclass
class Bench:
    """Tunes and judges candidates of one model, all on the same held-out rows."""

    folder: Path
    model: Path
    judged: dict[str, EvaluateOutput] = field(default_factory=dict)
    recipes: dict[str, str] = field(default_factory=dict)

    def candidate(self, name: str, train: Path, *, champion: bool = False, **changes: Any) -> dict[str, Any]:
        """Return the report of a candidate tuned on these rows; one that passed may be made champion."""
        recipe = write_recipe(
            self.folder,
            name="tiny",
            model=self.model.as_uri(),
            data={"train": str(train), "validation": str(self.folder / "heldout.jsonl"), "max_tokens": 64},
            tune={"learning_rate": 0.005, "batch_tokens": 256, "method": "lora", "epochs": 6},
            evaluate={
                "sample_rows": 1,
                "answer_tokens": 8,
                "tasks": [{"metric": "exact", "rows": 24}, {"data": "asked.jsonl", "metric": "rouge_l", "rows": 6}],
            },
            serve={"enabled": False},
        )
        text = load(recipe, {key: json.dumps(value) for key, value in changes.items()}).model_dump_json()
        self.recipes[name] = text
        planned = plan(PlanInput(run=name, recipe=text)).resolved
        rows = prepare(PrepareInput(resolved=planned, tokenizer_folder=str(self.model)))
        hardware = Hardware(rung=planned.quote.first, node="", since=time.time())
        given = {
            "resolved": planned,
            "base_folder": str(self.model),
            "rows_folder": rows.folder,
            "rows_digest": rows.digest,
            "hardware": hardware,
        }
        tuned = tune(TuneInput(**given))
        judged = self.judged[name] = evaluate(EvaluateInput(**given, adapter_folder=tuned.adapter_folder))
        if champion:
            assert judged.passed, judged.verdict
            version = {"adapter_folder": tuned.adapter_folder, "adapter_sha256": tuned.adapter_sha256}
            of_run = {key: given[key] for key in ("resolved", "base_folder", "rows_digest")}
            register(RegisterInput(**of_run, **version, report=judged.report))
        report: dict[str, Any] = json.loads(Path(judged.report).read_text())
        return report


def sure(model: Path, folder: Path) -> Path:
    """Copy the model with twelvefold embeddings, its head too: with random small ones no answer gets likely."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] *= 12
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("gate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(volumes.WEIGHTS_SETTING, str(folder / "weights"))
        patch.setenv(volumes.RUNS_SETTING, str(folder / "runs"))
        write(folder / "train.jsonl", 160, 1)
        write(folder / "shuffled.jsonl", 160, 1, shuffled=True)
        write(folder / "heldout.jsonl", 60, 2)
        write(folder / "asked.jsonl", 8, 3)
        bench = Bench(folder, sure(tiny_model, folder / "model"))
        bench.candidate("first", folder / "train.jsonl", champion=True)
        yield bench


@pytest.fixture(autouse=True)
def _same_folders(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(volumes.WEIGHTS_SETTING, str(bench.folder / "weights"))
    monkeypatch.setenv(volumes.RUNS_SETTING, str(bench.folder / "runs"))


def test_a_candidate_that_has_learnt_passes_with_an_interval_and_its_tasks(bench: Bench) -> None:
    report = json.loads(Path(bench.judged["first"].report).read_text())
    assert report["gains"]["base"]["low"] > 0.5
    assert report["gains"]["base"]["rows"] == 60
    exact, rouge = report["tasks"]
    assert (exact["name"], rouge["name"]) == ("exact of heldout", "rouge_l of asked")
    assert exact["means"]["candidate"] > exact["means"]["base"] == 0
    assert (exact["base"]["rows"], rouge["base"]["rows"]) == (24, 6)


def test_one_tuned_on_shuffled_answers_is_refused_as_worse_than_the_champion(bench: Bench) -> None:
    report = bench.candidate("shuffled", bench.folder / "shuffled.jsonl")
    judged = bench.judged["shuffled"]
    assert not judged.passed
    assert judged.exit_code == 3
    assert report["gains"]["base"]["low"] > 0  # it has learnt how answers look: against the base alone it would pass
    assert report["gains"]["champion"]["high"] < 0
    assert "worse than version 1" in judged.verdict
    assert "exact of heldout" in judged.verdict
    told = check(CheckInput(recipe=bench.recipes["shuffled"]))
    assert not told.changed  # a cron would else train it anew every night
    assert told.verdict == "nothing new: run shuffled, of the same data, base and recipe, was refused"


def test_another_seed_is_no_better_within_noise_and_is_let_through_only_where_the_gate_allows_it(bench: Bench) -> None:
    report = bench.candidate("another seed", bench.folder / "train.jsonl", **{"tune.seed": 5})
    gain, judged = report["gains"]["champion"], bench.judged["another seed"]
    assert gain["low"] < 0 < gain["high"], gain
    assert not judged.passed
    assert "no better than version 1 within noise" in judged.verdict
    allowed = {"tune.seed": 5, "gate.worse_than_champion": 2 * -gain["low"]}
    bench.candidate("ties allowed", bench.folder / "train.jsonl", **allowed)
    assert bench.judged["ties allowed"].passed


def test_the_same_again_is_the_champions_own_adapter(bench: Bench) -> None:
    bench.candidate("again", bench.folder / "train.jsonl")
    assert bench.judged["again"].passed
    assert "the same adapter as version 1, the champion" in bench.judged["again"].verdict


def test_the_run_in_mlflow_has_the_numbers_and_the_report_with_its_page(bench: Bench) -> None:
    store = tracking.client(tracking.default_uri())
    experiment = store.get_experiment_by_name("tiny").experiment_id
    (run,) = store.search_runs([experiment], "tags.`fineline.run` = 'first'")
    assert {"gain_over_base/low", "candidate/general_accuracy", "candidate/exact of heldout"} <= set(run.data.metrics)
    kept = {artifact.path for artifact in store.list_artifacts(run.info.run_id)}
    assert {"report.json", "report.html"} <= kept
