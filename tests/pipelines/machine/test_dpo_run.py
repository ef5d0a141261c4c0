"""Pairs to an adapter that prefers what was chosen: prepared, tuned, interrupted, evaluated and judged, two-layer model."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from steps.common.handover.resolved import Hardware, Resolved
from steps.common.model.pair_packs import TokenPair
from steps.common.model.prepared_rows import TRAIN, PreparedPairs
from steps.common.registry import tracking
from steps.common.runtime.errors import UserError
from steps.evaluate.step import EvaluateInput, EvaluateOutput, evaluate
from steps.plan.step import PlanInput, plan
from steps.prepare.step import PrepareInput, PrepareOutput, prepare
from steps.tune.objective import dpo
from steps.tune.step import TuneInput, TuneOutput, tune
from tests.support.commands import tiny_recipe
from tests.support.pairs import write_pairs


@pytest.fixture
def resolved(tmp_path: Path, tiny_model: Path) -> Resolved:
    pairs = write_pairs(tmp_path / "pairs.jsonl")
    recipe = tiny_recipe(tmp_path, tiny_model, pairs, objective="dpo", epochs=6, batch_tokens=512)
    return plan(PlanInput(recipe=recipe, run="pairs")).resolved


def prepared(resolved: Resolved, model: Path) -> PrepareOutput:
    return prepare(PrepareInput(resolved=resolved, tokenizer_folder=str(model)))


def wanted(resolved: Resolved, model: Path, until: float = 0.0) -> TuneInput:
    rows = prepared(resolved, model)
    return TuneInput(
        resolved=resolved,
        base_folder=str(model),
        rows_folder=rows.folder,
        rows_digest=rows.digest,
        hardware=Hardware(rung=resolved.quote.first, node="here", since=time.time(), until=until),
    )


def judged(resolved: Resolved, model: Path, adapter: str) -> EvaluateOutput:
    given = wanted(resolved, model)
    return evaluate(
        EvaluateInput(
            resolved=resolved,
            base_folder=str(model),
            rows_folder=given.rows_folder,
            rows_digest=given.rows_digest,
            adapter_folder=adapter,
            hardware=given.hardware,
        )
    )


def report_of(tuned: TuneOutput) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((Path(tuned.adapter_folder).parent / "report.json").read_text())
    return report


def test_an_easy_rule_is_learnt_and_told_of(resolved: Resolved, tiny_model: Path) -> None:
    rows = prepared(resolved, tiny_model)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    chosen, rejected = (
        tokenizer.decode(side.input_ids) for side in PreparedPairs.open(Path(rows.folder) / TRAIN)[0].sides
    )
    assert chosen.endswith("happy tails<|im_end|>\n")
    assert "happy tails" not in rejected
    assert "training rows" in rows.summary

    tuned = tune(wanted(resolved, tiny_model))
    report = report_of(tuned)
    rewards = report["rewards"]
    assert rewards[0][1:] == [0.0, 0.0]  # a new adapter prefers nothing
    assert report["losses"][0][1] == pytest.approx(0.6931, abs=1e-3)
    assert report["reward_margin"] > 0.2
    assert report["reward_accuracy"] == 1.0
    assert "of pairs preferred" in tuned.summary

    verdict = judged(resolved, tiny_model, tuned.adapter_folder)
    assert verdict.passed, verdict.verdict
    scores = json.loads(Path(verdict.report).read_text())["scores"]
    assert scores["candidate"]["preference_accuracy"] > 0.9
    assert scores["candidate"]["pairs"] == 6
    assert "preference_accuracy" not in scores["base"]
    assert "100.0% of 6" in Path(verdict.report).with_suffix(".html").read_text()

    kept = tracking.client(resolved.tracking.uri).get_run(resolved.tracking.run_id).data
    assert kept.metrics["candidate/preference_accuracy"] == scores["candidate"]["preference_accuracy"]
    assert kept.metrics["tune/reward_margin"] == rewards[-1][1]
    assert kept.metrics["tune/reward_accuracy"] == 1.0
    assert kept.params["objective"] == "dpo"


def test_a_preference_of_the_wrong_answers_is_refused(resolved: Resolved, tiny_model: Path, tmp_path: Path) -> None:
    swapped = tmp_path / "swapped.jsonl"
    with swapped.open("w") as out:
        for line in Path(resolved.data.train[0].files[0].path).read_text().splitlines():
            pair = json.loads(line)
            out.write(json.dumps(pair | {"chosen": pair["rejected"], "rejected": pair["chosen"]}) + "\n")
    recipe = tiny_recipe(tmp_path, tiny_model, swapped, objective="dpo", epochs=6, batch_tokens=512)
    wrong = tune(wanted(plan(PlanInput(recipe=recipe)).resolved, tiny_model))
    verdict = judged(resolved, tiny_model, wrong.adapter_folder)
    assert not verdict.passed
    assert "refused: prefers the chosen answer more than the base does in 0.0% of 6 held-out pairs" in verdict.verdict


def test_a_training_that_is_stopped_ends_at_the_same_adapter(
    resolved: Resolved, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3):
        with pytest.raises(UserError, match=f"is reached after step {step} of"):
            tune(wanted(resolved, tiny_model, until=time.time()))
    resumed = tune(wanted(resolved, tiny_model))
    assert report_of(resumed)["resumed_from"] == 3
    given = wanted(resolved, tiny_model)
    monkeypatch.setenv("FINELINE_RUNS", str(tmp_path / "elsewhere"))
    at_one_go = tune(given)
    assert report_of(at_one_go)["resumed_from"] == 0
    after, uninterrupted = (
        load_file(Path(one.adapter_folder) / "adapter_model.safetensors") for one in (resumed, at_one_go)
    )
    assert after.keys() == uninterrupted.keys()
    assert all(torch.allclose(after[name], uninterrupted[name], atol=1e-5) for name in after)


@pytest.mark.slow
def test_cut_up_or_shared_out_the_training_is_the_same(
    resolved: Resolved, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hungry(dpo.DpoObjective):
        """Takes a petabyte where more than two pairs are computed at once."""

        def loss(self, model: torch.nn.Module, pack: list[TokenPair], device: torch.device) -> torch.Tensor:
            if len(pack) > 2:
                torch.empty(1 << 50, dtype=torch.uint8, device=device)
            return super().loss(model, pack, device)

    def tuned(name: str, **rung: int) -> tuple[dict[str, torch.Tensor], Any]:
        hardware = given.hardware.model_copy(update={"rung": given.hardware.rung.model_copy(update=rung)})
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("FINELINE_RUNS", str(tmp_path / name))
            done = tune(given.model_copy(update={"hardware": hardware}))
        return load_file(Path(done.adapter_folder) / "adapter_model.safetensors"), report_of(done)

    given = wanted(resolved, tiny_model)
    whole, alone = tuned("whole", micro_batch_tokens=256), tuned("alone", micro_batch_tokens=64)
    shared = tuned("shared", micro_batch_tokens=64, processes=2, sharded=True)
    monkeypatch.setattr(dpo, "DpoObjective", Hungry)
    cut = tuned("cut", micro_batch_tokens=256)
    assert cut[1]["tokens_at_once"] < 256
    assert shared[1]["processes"] == 2
    # Adam makes whole steps of gradients that are next to nothing, whose sign is a matter of rounding: adapters drift apart
    # where they do not matter. The losses are those of the same steps.
    for (_, report), (_, told) in ((whole, cut), (alone, shared)):
        before, after = ([loss for _, loss in one["losses"]] for one in (report, told))
        assert len(after) == len(before)
        assert after[:3] == pytest.approx(before[:3], abs=2e-3)
        assert after[-1] == pytest.approx(before[-1], abs=0.1)
