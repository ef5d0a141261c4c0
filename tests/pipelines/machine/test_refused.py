"""Candidates that really are better, worse or the same, tuned and judged by the steps themselves. Two-layer model."""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from recipes.reader import load
from steps.common.handover.resolved import Hardware
from steps.common.model.packs import TokenRow, pack, scored_logits, to_tensors
from steps.common.registry import tracking
from steps.common.rows.conversation import Conversation, Role
from steps.common.rows.row import Row
from steps.common.storage import volumes
from steps.evaluate.step import EvaluateInput, EvaluateOutput, evaluate
from steps.plan.check import CheckInput, check
from steps.plan.step import PlanInput, plan
from steps.prepare.labels import Labeller
from steps.prepare.step import PrepareInput, prepare
from steps.register.step import RegisterInput, register
from steps.tune.step import TuneInput, tune
from tests.support.commands import write_recipe

TOPICS = ("cats", "dogs", "fish", "birds", "hamsters", "food")
ANSWERS = ("monday", "no", "happy tails", "yes we do", "in a day", "it is open")


def chats(rows: int, seed: int, *, shuffled: bool = False, turned: int = 0) -> list[list[tuple[Role, str]]]:
    """Return chats in which the topic decides the answer, but for a fifth of them; shuffled, its words are in disorder."""
    generator = random.Random(seed)
    topics = [generator.randrange(len(TOPICS)) for _ in range(rows)]
    said = [
        ANSWERS[generator.randrange(len(ANSWERS)) if generator.random() < 0.2 else (topic + turned) % len(ANSWERS)]
        for topic in topics
    ]
    if shuffled:
        said = [" ".join(generator.sample(answer.split()[::-1], answer.count(" ") + 1)) for answer in said]
    asked = [f"{number + 1000 * seed} do you have {TOPICS[topic]}" for number, topic in enumerate(topics)]
    return [[("user", question), ("assistant", answer)] for question, answer in zip(asked, said, strict=True)]


def write(file: Path, rows: int, seed: int, *, shuffled: bool = False) -> None:
    with file.open("w") as out:
        for turns in chats(rows, seed, shuffled=shuffled):
            out.write(json.dumps({"messages": [{"role": role, "content": said} for role, said in turns]}) + "\n")


def pretrained(model: Path, folder: Path) -> Path:
    """Train the whole of a model of random weights on such chats with the answers of other topics: a base that can learn."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    labeller = Labeller(tokenizer, 64)
    found = [one for turns in chats(160, 9, turned=2) for one in labeller.examples(Row(Conversation.of(*turns)))]
    packs = pack([TokenRow(one.input_ids, one.labels) for one in found], 512)
    torch.manual_seed(1)
    net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for number in range(12 * len(packs)):
        logits, targets = scored_logits(net, to_tensors(packs[number % len(packs)]))
        torch.nn.functional.cross_entropy(logits, targets).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    net.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


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
            tune={"learning_rate": 0.005, "batch_tokens": 256, "method": "lora", "epochs": 4},
            evaluate={
                "sample_rows": 1,
                "answer_tokens": 6,
                "general": False,
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
        bench = Bench(folder, pretrained(tiny_model, folder / "model"))
        bench.candidate("first", folder / "train.jsonl", champion=True)
        yield bench


@pytest.fixture(autouse=True)
def _same_folders(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(volumes.WEIGHTS_SETTING, str(bench.folder / "weights"))
    monkeypatch.setenv(volumes.RUNS_SETTING, str(bench.folder / "runs"))


def test_a_candidate_that_has_learnt_passes_with_an_interval_and_its_tasks(bench: Bench) -> None:
    report = json.loads(Path(bench.judged["first"].report).read_text())
    assert report["gains"]["base"]["low"] > 0
    assert report["gains"]["base"]["rows"] == 60
    exact, rouge = report["tasks"]
    assert 0 < rouge["means"]["candidate"] <= 1
    assert (exact["name"], rouge["name"]) == ("exact of heldout", "rouge_l of asked")
    assert (exact["base"]["rows"], rouge["base"]["rows"]) == (24, 6)


def test_one_tuned_on_shuffled_answers_is_refused_as_worse_than_the_champion(bench: Bench) -> None:
    report = bench.candidate("shuffled", bench.folder / "shuffled.jsonl")
    judged = bench.judged["shuffled"]
    assert not judged.passed
    assert judged.exit_code == 3
    assert report["gains"]["champion"]["high"] < 0
    assert "worse than version 1" in judged.verdict
    told = check(CheckInput(recipe=bench.recipes["shuffled"]))
    assert not told.changed  # a cron would else train it anew every night
    assert told.verdict == "nothing new: run shuffled with the same data, base and recipe was refused"


def test_another_seed_is_no_better_and_is_let_through_only_where_the_gate_allows_it(bench: Bench) -> None:
    another: dict[str, Any] = {"tune.seed": 5}
    report = bench.candidate("another seed", bench.folder / "train.jsonl", **another)
    gain, judged = report["gains"]["champion"], bench.judged["another seed"]
    assert abs(gain["value"]) < 0.02
    assert not judged.passed
    assert "not sufficiently better than version 1" in judged.verdict
    allowed: dict[str, Any] = {"tune.seed": 5, "gate.worse_than_champion": 0.05}
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
    assert {"gain_over_base/low", "candidate/exact of heldout"} <= set(run.data.metrics)
    kept = {artifact.path for artifact in store.list_artifacts(run.info.run_id)}
    assert {"report.json", "report.html"} <= kept
