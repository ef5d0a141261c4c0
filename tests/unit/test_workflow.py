"""The Hera workflow: sound as Argo will read it, and read by the run on one machine without anything ignored."""

import importlib
import json
import subprocess
import sys
import time
from typing import Any

import pytest
from hera.workflows import WorkflowTemplate

from pipelines.finetune import build
from pipelines.machine.references import UnknownReferenceError, fill
from pipelines.machine.workflow import UnsupportedError, read


@pytest.fixture
def workflow() -> dict[str, Any]:
    return dict(build().to_dict())


def test_the_same_code_gives_the_same_yaml_and_it_reads_back() -> None:
    text = build().to_yaml()
    assert build().to_yaml() == text
    assert WorkflowTemplate.from_yaml(text).to_dict() == build().to_dict()


def test_every_argument_is_an_input_and_every_input_is_given(workflow: dict[str, Any]) -> None:
    templates = {t["name"]: t for t in workflow["spec"]["templates"]}
    for template in templates.values():
        for task in template.get("dag", {}).get("tasks", []):
            inputs = {p["name"]: p for p in templates[task["template"]].get("inputs", {}).get("parameters", [])}
            given = {p["name"] for p in task.get("arguments", {}).get("parameters", [])}
            assert given <= inputs.keys(), task["name"]
            assert {n for n, p in inputs.items() if p.get("default") is None} <= given, task["name"]


def test_every_entrypoint_is_importable_and_no_default_is_null(workflow: dict[str, Any]) -> None:
    for template in workflow["spec"]["templates"]:
        if "script" in template:
            module, _, function = template["script"]["args"][3].partition(":")
            assert callable(getattr(importlib.import_module(module), function))
        assert all(p.get("default") != "null" for p in template.get("inputs", {}).get("parameters", []))


def test_every_enum_contains_its_value(workflow: dict[str, Any]) -> None:
    for parameter in workflow["spec"]["arguments"]["parameters"]:
        assert parameter["description"]
        assert parameter["value"] in parameter.get("enum", [parameter["value"]])


def test_the_order_of_the_steps(workflow: dict[str, Any]) -> None:
    after = {task.name: set(task.after) for task in read(workflow).tasks}
    assert after["provision"] == after["pull"] == after["tokenizer"] == {"plan"}
    assert after["prepare"] == {"tokenizer"}
    assert after["tune"] == {"provision", "pull", "prepare"}
    assert [t.name for t in read(workflow).on_exit] == ["release"]


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("spec", "parallelism", 2),
        ("template", "retryStrategy", {"limit": 2}),
        ("template", "memoize", {"key": "a"}),
        ("script", "workingDir", "/tmp"),
        ("task", "withItems", [1, 2]),
        ("task", "when", "{{=1 == 1}}"),
        ("task", "depends", "plan.Failed"),
        ("task", "hooks", {"exit": {"template": "release"}}),
    ],
)
def test_what_is_not_understood_is_refused_by_name(workflow: dict[str, Any], place: str, key: str, value: Any) -> None:
    script = next(t for t in workflow["spec"]["templates"] if t["name"] == "tune")
    dag = next(t for t in workflow["spec"]["templates"] if t["name"] == "main")["dag"]
    places = {"spec": workflow["spec"], "template": script, "script": script["script"], "task": dag["tasks"][-1]}
    places[place][key] = value
    with pytest.raises(UnsupportedError) as caught:
        read(workflow)
    assert "does not understand" in str(caught.value)
    assert key in str(caught.value) or str(value) in str(caught.value)


def test_references_are_filled_in_once() -> None:
    assert fill("a {{x}} b", {"x": "{{y}}", "y": "no"}) == "a {{y}} b"
    with pytest.raises(UnknownReferenceError, match="refers to nothing"):
        fill("{{tasks.plan.outputs.parameters.nothing}}", {})


def test_help_is_there_in_a_second_and_no_command_line_loads_torch() -> None:
    probe = (
        "import sys; import pipelines.finetune; pipelines.finetune.build(); "
        "print([m for m in ('torch', 'transformers', 'mlflow', 'peft') if m in sys.modules])"
    )
    heavy = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert json.loads(heavy.stdout.replace("'", '"')) == []
    took = []
    for _ in range(3):
        start = time.monotonic()
        shown = subprocess.run(
            [sys.executable, "-m", "pipelines.command", "--help"], capture_output=True, text=True, check=True
        )
        took.append(time.monotonic() - start)
    assert "run the whole workflow on this machine" in shown.stdout
    assert min(took) < 1.0
