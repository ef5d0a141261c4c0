"""A candidate is scored as it will be served: as an adapter on the 16-bit base if vLLM does that, else merged."""

import json
from pathlib import Path

import pytest

from recipes.reader import load
from steps.common.handover.resolved import Resolved
from steps.common.storage import volumes
from steps.evaluate.step import EvaluateInput, evaluate
from steps.plan.step import PlanInput, resolve
from steps.prepare.step import PrepareInput, prepare
from steps.provision.local_machine import this_machine
from steps.pull.step import PullInput, pull
from steps.tune.step import TuneInput, tune


def planned(model: Path, chats: Path, calls: Path, form: str) -> Resolved:
    recipe = load(
        "pet-store",
        {
            "name": "tiny",
            "model": model.as_uri(),
            "data.train": str(chats),
            "data.validation": "",
            "data.max_tokens": "64",
            "tune.learning_rate": "0.01",
            "tune.batch_tokens": "128",
            "evaluate.sample_rows": "1",
            "evaluate.answer_tokens": "8",
            "evaluate.tasks": f"[{{data: {calls}, metric: call}}]",
            "serve.gpus": "0",
            "serve.form": form,
        },
    )
    return resolve(PlanInput(recipe=json.dumps(recipe.model_dump(mode="json")))).model_copy(
        update={"run": f"run-{form}"}
    )


def test_the_same_adapter_is_scored_in_the_form_in_which_it_is_served(
    tiny_model: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls.jsonl"
    calls.write_text('{"prompt": "open", "completion": "<tool_call>{\\"name\\": \\"open\\"}</tool_call>"}\n')
    monkeypatch.setenv("FINELINE_SERVE_IMAGE", "fineline-serve:0.1.0")
    monkeypatch.setenv("FINELINE_API_KEY_DEFAULT", "none")
    monkeypatch.setenv("FINELINE_VLLM_IMAGE", "vllm/vllm-openai-cpu:v0.32.0")
    beside, merged = (planned(tiny_model, chats, calls, form) for form in ("auto", "merged"))
    assert (beside.serving_plan.form, merged.serving_plan.form) == ("adapter", "merged")
    monkeypatch.delenv("FINELINE_SERVE_IMAGE")  # planned for a cluster, but scored here
    hardware, _, _ = this_machine(beside)
    base = pull(PullInput(model=beside.model)).folder
    rows = prepare(PrepareInput(resolved=beside, tokenizer_folder=base))
    given = {"base_folder": base, "rows_folder": rows.folder, "rows_digest": rows.digest, "hardware": hardware}
    adapter = tune(TuneInput(resolved=beside, **given)).adapter_folder

    losses = {}
    for resolved in (beside, merged):
        report = evaluate(EvaluateInput(resolved=resolved, adapter_folder=adapter, **given)).report
        evaluation = json.loads(Path(report).read_text())
        losses[resolved.serving_plan.form] = evaluation["scores"]["candidate"]["loss"]
        assert [(task["name"], task["means"]["candidate"]) for task in evaluation["tasks"]] == [("call of calls", 0)]
        # A merged model is written only if one is served.
        assert (volumes.runs() / "merged").exists() == (resolved is merged)
    # Tuned on the base in 4 bits: on the 16-bit base, and merged into the rounded one, it is not the same model.
    assert losses["adapter"] != losses["merged"]
    assert losses["adapter"] == pytest.approx(losses["merged"], rel=0.1)
