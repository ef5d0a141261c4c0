"""One function checks a whole recipe, so that every command refuses the same mistakes with the same line."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.cluster.transfer.send_data import with_data_in_reach
from pipelines.command import main
from presets.model_preset import ModelSource
from recipes.reader import RecipeError, load
from steps.common.handover.resolved import Resolved, Tracking
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.common.weights.sources.listing import Listing
from steps.common.weights.sources.revision import pin
from steps.plan import step
from steps.plan.step import PlanInput
from tests.support.pairs import write_pairs
from tests.support.source import CONFIG, TOKENIZER, write_safetensors

ROOT = Path(__file__).parents[3]
ROWS = '{"prompt": "when are you open?", "completion": "on monday"}\n'
VLLM = {
    "FINELINE_SERVE_IMAGE": "fineline-serve:0.1.0",
    "FINELINE_VLLM_IMAGE": "vllm/vllm-openai:v0.32.0",
    "FINELINE_API_KEY_DEFAULT": "none",
}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown model": ({"model": "smollm2-135m"}, "did you mean 'smollm2-135m-instruct'?"),
    "model that cannot be tuned": ({"model": "gpt-oss-20b"}, "model: gpt-oss-20b cannot be tuned"),
    "model that cannot be quantised": ({"model": "falcon-7b", "tune.method": "qlora"}, "set tune.method=lora"),
    "model without GGUF": ({"model": "gemma-3-1b-instruct", "export.gguf": "q8_0"}, "export.gguf: the architecture"),
    "rows longer than the context": (
        {"data.max_tokens": 9000},
        "data.max_tokens: 9000 exceeds the model's context of 8192 tokens",
    ),
    "missing training rows": ({"data.train": "nowhere.jsonl"}, "nowhere.jsonl: no such data file"),
    "missing held-out rows": ({"data.validation": "nowhere.jsonl"}, "nowhere.jsonl: no such data file"),
    "bad row": ({"data.train": "bad.jsonl"}, "bad.jsonl:2: "),
    "single row": ({"data.train": "single.jsonl"}, "has one row"),
    "pairs without dpo": ({"data.train": "pairs.jsonl"}, "set tune.objective=dpo"),
    "dpo without pairs": ({"tune.objective": "dpo"}, "set tune.objective=sft"),
    "missing task": ({"evaluate.tasks": [{"data": "nowhere.jsonl", "metric": "exact"}]}, "no such data file"),
    "task without a reference": ({"evaluate.tasks": [{"data": "text.jsonl", "metric": "exact"}]}, "evaluate.tasks.0: "),
    "missing packed lm-eval task": ({"evaluate.lm_eval": [{"task": "shop", "include": "nowhere.zip"}]}, "nowhere.zip"),
    "remote lm-eval task": ({"evaluate.lm_eval": [{"task": "shop", "include": "s3://a/b"}]}, "only a packed task"),
    "heads that cannot be split": ({"serve.gpus": 4}, "serve.gpus: 9 attention heads cannot be split"),
    "DoRA beside its base": ({"serve.gpus": 1, "serve.form": "adapter", "tune.dora": True}, "serve.form: vLLM"),
    "unknown key": ({"tune.epoch": 2}, "did you mean 'epochs'?"),
    "reference of a workflow": ({"evaluate.questions": [{"ask": "{{workflow.name}}"}]}, "a recipe may not contain"),
}
NEEDS_VLLM = ("heads that cannot be split", "DoRA beside its base")
# A URL is read by the cluster alone.
READ_BY_THE_CLUSTER = ("remote lm-eval task",)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "rows.jsonl").write_text(ROWS * 8)
    (folder / "single.jsonl").write_text(ROWS)
    (folder / "bad.jsonl").write_text(ROWS + '{"question": "x"}\n')
    (folder / "text.jsonl").write_text('{"text": "once upon a time"}\n' * 2)
    write_pairs(folder / "pairs.jsonl", 4)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def model(folder: Path) -> Path:
    """As much of a model as a plan reads."""
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG))
    (model / "tokenizer.json").write_text(TOKENIZER)
    write_safetensors(model / "model.safetensors", {"lm_head.weight": ("BF16", [100, 64])})
    return model


def recipe_text(changes: dict[str, Any]) -> str:
    recipe: dict[str, Any] = {"name": "shop", "model": "smollm2-135m-instruct:pypi", "data": {"train": "rows.jsonl"}}
    for key, value in changes.items():
        part = recipe
        *parents, leaf = key.split(".")
        for parent in parents:
            part = part.setdefault(parent, {})
        part[leaf] = value
    return json.dumps(recipe)


def line_of_command(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the line of a refusal."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return str(line)


def line_of_submit(text: str, settings: dict[str, str]) -> str:
    """Return the line of a refusal, before anything is sent to a cluster."""
    config = SimpleNamespace(data=settings)
    connection: Any = SimpleNamespace(
        namespace="fineline", core=SimpleNamespace(read_namespaced_config_map=lambda *_: config)
    )
    with pytest.raises((UserError, RecipeError)) as refusal:
        with_data_in_reach(connection, load(text))
    return f"fineline: {refusal.value}"


@pytest.mark.parametrize("name", BAD)
def test_everyone_refuses_a_recipe_with_the_same_line(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, expected = BAD[name]
    for setting, value in VLLM.items() if name in NEEDS_VLLM else ():
        monkeypatch.setenv(setting, value)
    text = recipe_text(changes)
    line = line_of_command(capsys, "plan", text)
    assert expected in line
    assert line_of_command(capsys, "plan", text, "--cloud", "aws") == line
    assert line_of_command(capsys, "run", text) == line
    assert not (volumes.runs() / "runs").exists()
    if name not in READ_BY_THE_CLUSTER:
        assert line_of_submit(text, VLLM) == line


def test_the_checks_are_called_in_one_place_alone() -> None:
    """A check that a single command or step called would be missing from all others."""
    callers: dict[str, set[str]] = {}
    for file in (path for room in ("pipelines", "steps") for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("steps.plan."):
                for name in node.names:
                    callers.setdefault(name.name, set()).add(str(file.relative_to(ROOT)))
    checks = {name for name in callers if name.startswith(("check_", "inspect_"))} - {"check_recipe"}
    assert checks >= {"check_tunable", "check_exportable", "check_context", "check_port", "inspect_data"}
    assert {name: callers[name] for name in checks} == {
        name: {"steps/plan/check_recipe.py"} if name != "check_scope" else callers[name] for name in checks
    }
    assert callers["plan_serving"] == {"steps/plan/check_recipe.py"}
    assert callers["packed_file"] == {"steps/plan/check_recipe.py"}
    assert callers["check_recipe"] >= {"steps/plan/step.py", "pipelines/cluster/transfer/send_data.py"}


def test_checking_a_recipe_loads_neither_hera_nor_torch_and_asks_nobody_about_a_preset() -> None:
    code = (
        "import sys, socket\n"
        "socket.socket.connect = socket.getaddrinfo = None\n"
        "from recipes.reader import load\n"
        "from steps.plan.check_recipe import CheckScope, check_recipe\n"
        "assert check_recipe(load('pet-store'), CheckScope()).model.bytes\n"
        "assert not {'hera', 'torch', 'transformers', 'mlflow', 'kubernetes'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_model_that_is_to_be_exported_is_listed_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []

    def counted(source: ModelSource) -> Listing:
        listed.append(source.uri)
        return pin(source)

    monkeypatch.setattr("steps.plan.model.pin", counted)
    step.resolve(PlanInput(recipe=recipe_text({"model": model.as_uri(), "data.max_tokens": 64, "export.gguf": "q8_0"})))
    assert listed == [model.as_uri()]


def test_the_plan_step_takes_over_what_the_command_has_planned(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = recipe_text({"model": model.as_uri(), "data.max_tokens": 64})
    resolved = step.resolve(PlanInput(recipe=text))
    monkeypatch.setattr(step, "resolve", None)
    monkeypatch.setattr(step, "_open", lambda *_: Tracking(uri="", run_id="7"))
    step.hand_over(resolved, "shop-1")
    output = step.plan(PlanInput(recipe=text, run="shop-1"))
    assert output.resolved == resolved.model_copy(update={"run": "shop-1", "tracking": Tracking(uri="", run_id="7")})


def test_a_plan_step_that_is_run_again_plans_anew(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = recipe_text({"model": model.as_uri(), "data.max_tokens": 64})
    step.hand_over(step.resolve(PlanInput(recipe=text)), "shop-1")
    monkeypatch.setattr(step, "_open", lambda resolved, _: resolved.tracking)
    step.plan(PlanInput(recipe=text, run="shop-1"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://corrected:5000")
    again = step.plan(PlanInput(recipe=text, run="shop-1"))
    assert again.resolved.tracking.uri == "http://corrected:5000"


@pytest.mark.parametrize("changes", [{"epochs": "2"}, {"run": "shop-2"}])
def test_what_was_planned_for_other_inputs_is_planned_again(
    model: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    text = recipe_text({"model": model.as_uri(), "data.max_tokens": 64})
    monkeypatch.setattr(step, "_open", lambda *_: Tracking(uri="", run_id="7"))
    step.hand_over(step.resolve(PlanInput(recipe=text)), "shop-1")
    wanted = {"recipe": text, "run": "shop-1"} | changes
    planned = []
    resolve = step.resolve

    def counted(given: PlanInput) -> Resolved:
        planned.append(given)
        return resolve(given)

    monkeypatch.setattr(step, "resolve", counted)
    output = step.plan(PlanInput(**wanted))
    assert len(planned) == 1
    assert output.resolved.recipe.tune.epochs == float(changes.get("epochs", 1))


def test_a_constant_that_a_models_config_lacks_is_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {key: value for key, value in CONFIG.items() if key != "max_position_embeddings"}
    (model / "config.json").write_text(json.dumps(config))
    text = recipe_text({"model": model.as_uri()})
    line = line_of_command(capsys, "plan", text)
    assert line.endswith("its config.json does not set max_position_embeddings; only dense decoders can be tuned")
    assert line_of_command(capsys, "plan", text, "--cloud", "aws") == line
    assert line_of_command(capsys, "run", text) == line


def test_a_plan_that_no_pod_could_be_given_is_refused_on_a_cluster_alone(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        (folder / "more").mkdir(exist_ok=True)
        (folder / "more" / f"{'x' * 200}{number}.jsonl").write_text(ROWS * 2)
    (folder / "more").rename(folder / ("y" * 200))
    text = recipe_text(
        {"model": model.as_uri(), "data.max_tokens": 64, "data.train": "y" * 200, "serve.enabled": False}
    )
    assert len(step.resolve(PlanInput(recipe=text)).data.train[0].files) == 100
    monkeypatch.setenv("FINELINE_SERVE_IMAGE", "fineline-serve:0.1.0")
    with pytest.raises(
        UserError, match=r"names 100 files one by one, takes .* KiB, and on a cluster it may take 48 KiB"
    ):
        step.resolve(PlanInput(recipe=text))
