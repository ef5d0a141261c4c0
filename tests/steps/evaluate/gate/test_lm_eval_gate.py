"""Tasks of lm-eval in an evaluation: scored on the model itself, cached, compared, reported, and judged by the gate."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from recipes.evaluation import Gate, LmEvalTask
from steps.common.handover.resolved import Resolved
from steps.common.lm_eval import pack
from steps.common.model.chat_template import ChatTemplate
from steps.common.registry import tracking
from steps.common.runtime.errors import UserError
from steps.evaluate.gate.comparison import Champion, compare
from steps.evaluate.gate.gate import Verdict, judge
from steps.evaluate.scores.lm_eval_rows import LmEvalRows, read_lm_eval_rows, score_lm_eval
from steps.evaluate.scores.score import Score
from steps.evaluate.step import EvaluateInput, evaluate
from steps.plan.step import PlanInput, plan
from steps.prepare.step import PrepareInput, prepare
from steps.provision.local_machine import this_machine
from steps.pull.step import PullInput, pull
from steps.tune.step import TuneInput, tune
from tests.support.lm_eval_tasks import write_shop


def planned(model: Path, chats: Path, *tasks: dict[str, Any], run: str = "first") -> Resolved:
    recipe = {
        "name": "tiny",
        "model": model.as_uri(),
        "data": {"train": str(chats), "max_tokens": 64},
        "tune": {"learning_rate": 0.01, "batch_tokens": 128, "method": "lora", "epochs": 8},
        "evaluate": {"sample_rows": 1, "answer_tokens": 4, "general": False, "lm_eval": list(tasks)},
        "serve": {"enabled": False},
    }
    return plan(PlanInput(run=run, recipe=json.dumps(recipe))).resolved


def test_a_rows_value_is_whether_this_model_finds_the_right_option_most_likely(
    tiny_model: Path, chats: Path, tmp_path: Path
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tasks = write_shop(tmp_path / "tasks")
    rows = [
        {"ask": f"{word} {number}", "options": ["birds", "hamsters", "food"], "right": number % 3}
        for number, word in enumerate(["cats", "dogs", "fish", "when do you"] * 5)
    ]
    (tasks / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    resolved = planned(tiny_model, chats, {"task": "shop", "include": str(tasks), "num_fewshot": 0})
    model, tokenizer = (kind.from_pretrained(tiny_model) for kind in (AutoModelForCausalLM, AutoTokenizer))
    (found,) = score_lm_eval(model.eval(), ChatTemplate(tokenizer), read_lm_eval_rows(resolved), "base")

    def nats(asked: str, option: str) -> float:
        read, whole = (tokenizer(text, return_tensors="pt")["input_ids"] for text in (asked, f"{asked} {option}"))
        with torch.inference_mode():
            likely = model(whole).logits.float().log_softmax(-1)[0, read.shape[1] - 1 : -1]
        said = whole[0, read.shape[1] :]
        return -float(likely.gather(1, said[:, None]).sum())

    own = []
    for row in rows:
        of_row = [nats(str(row["ask"]), option) for option in row["options"]]  # type: ignore[attr-defined]
        own.append(float(of_row.index(min(of_row)) == row["right"]))
    assert found == own
    assert set(found) == {0.0, 1.0}
    beside = get_peft_model(model, LoraConfig(target_modules=["q_proj"])).eval()  # untrained
    assert score_lm_eval(beside, ChatTemplate(tokenizer), read_lm_eval_rows(resolved), "candidate") == [found]


def test_a_candidate_that_lost_a_task_is_refused_and_the_report_has_both_tasks(
    tiny_model: Path, chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = write_shop(tmp_path / "tasks")
    said = {"output_type": "generate_until", "doc_to_choice": None, "generation_kwargs": {"max_gen_toks": 4}}
    exact = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
    write_shop(tasks, task="said", doc_to_target="{{options[1]}}", metric_list=exact, **said)
    own = {"include": str(tasks), "chat_template": True}
    wanted = [{"task": "shop", "rows": 20, **own}, {"task": "said", "rows": 2, "num_fewshot": 1, **own}]
    resolved = planned(tiny_model, chats, *wanted)
    hardware, _, _ = this_machine(resolved)
    base = pull(PullInput(model=resolved.model)).folder
    rows = prepare(PrepareInput(resolved=resolved, tokenizer_folder=base))
    given = {"base_folder": base, "rows_folder": rows.folder, "rows_digest": rows.digest, "hardware": hardware}
    adapter = tune(TuneInput(resolved=resolved, **given)).adapter_folder
    capsys.readouterr()

    judged = evaluate(EvaluateInput(resolved=resolved, adapter_folder=adapter, **given))
    log = capsys.readouterr().err
    assert judged.exit_code == 3, judged.verdict
    assert judged.verdict.startswith("refused: acc of shop: ")
    assert "worse than the base" in judged.verdict
    assert "scoring the base" in log
    assert "requests of lm-eval to the candidate" in log
    report = json.loads(Path(judged.report).read_text())
    for part, folder in (("data", Path(rows.folder)), ("tuning", Path(adapter).parent)):
        stored = json.loads((folder / "report.json").read_text())
        assert {"schema_version": 1, **report[part]} == stored  # all that the step reported
    shop, said_too = report["tasks"]
    assert (shop["name"], said_too["name"]) == ("acc of shop", "exact_match of said, 1-shot")
    assert shop["means"]["base"] == 1.0
    assert shop["means"]["candidate"] < 0.5
    assert (shop["base"]["rows"], said_too["base"]["rows"]) == (20, 2)
    page = Path(judged.report).with_suffix(".html").read_text()
    assert "<td>acc of shop</td>" in page
    assert "acc of shop over the base" in page
    run = tracking.client(resolved.tracking.uri).get_run(resolved.tracking.run_id)
    assert run.data.metrics["base/acc of shop"] == 1.0

    lenient = planned(tiny_model, chats, {**wanted[0], "allowed_drop": 1}, wanted[1], run="second")
    again = evaluate(EvaluateInput(resolved=lenient, adapter_folder=adapter, **given))
    assert again.passed
    assert "scoring" not in capsys.readouterr().err  # the scores are cached: the task is asked the same way

    fewer = planned(tiny_model, chats, {**wanted[0], "rows": 19}, run="third")
    os.truncate(fewer.lm_eval[0].path, 100)
    with pytest.raises(UserError, match="changed since the run was planned"):
        evaluate(EvaluateInput(resolved=fewer, adapter_folder=adapter, **given))


def verdict(base: list[float], candidate: list[float], champion: list[float] | None = None, **task: Any) -> Verdict:
    asked = pack.PackedRequest(
        wanted={},
        rows={"arc": list(range(len(base)))},
        num_fewshot=None,
        chat_template=False,
        metric="acc",
        filter="none",
        read_tokens=0,
        written_tokens=0,
    )
    lm_eval = [LmEvalRows(LmEvalTask(task="arc", **task), Path("arc.zip"), "", asked)]

    def score(loss: float, values: list[float]) -> Score:
        return Score(nats=[10 * loss] * 40, labelled=[10] * 40, right=[5] * 40, answers=[], lm_eval=[values])

    before, after = score(2.0, base), score(1.0, candidate)
    served = Champion(3, score(1.5, champion)) if champion else None
    compared = compare(before, after, served.score if served else None, [], 0, lm_eval, 0.1)
    return judge(Gate(), before, after, served, compared, [])


RIGHT, WORSE, HALF = [1.0] * 40, [1.0] * 36 + [0.0] * 4, [1.0, 0.0] * 20


def test_worse_than_base_or_champion_beyond_noise_is_refused() -> None:
    assert "acc of arc: 90.0%, worse than the base: -10.0%" in verdict(RIGHT, WORSE).in_words()
    assert "acc of arc: 50.0%, worse than version 3" in verdict(HALF, HALF, RIGHT).in_words()
    assert verdict(RIGHT, [0.0, *RIGHT[1:]]).passed
    assert (
        "acc of arc: 100.0%, +50.0% (95% interval +35.0% to +65.0%) against the base" in verdict(HALF, RIGHT).in_words()
    )


def test_a_drop_that_the_task_allows_passes_and_a_larger_one_does_not() -> None:
    assert verdict(RIGHT, WORSE, allowed_drop=0.1).passed
    judged = verdict(RIGHT, HALF, allowed_drop=0.1)
    assert not judged.passed
    assert "the task allows a drop of 10.0%" in judged.in_words()
    assert verdict(RIGHT, [0.0] * 40, allowed_drop=1).passed


def test_a_mean_below_the_minimum_of_the_task_is_refused() -> None:
    assert "acc of arc: 50.0%, the task requires 60.0%" in verdict(HALF, HALF, at_least=0.6).in_words()
