"""The Hera workflows: valid for Argo, and understood in full by the run on one machine."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pipelines.machine.local_workflow import UnsupportedError, read
from pipelines.machine.references import UnknownReferenceError, fill
from pipelines.workflows.finetune import build
from pipelines.workflows.rendered import BUILDERS, differences, write
from recipes.recipe import Recipe


@pytest.fixture
def workflow() -> dict[str, Any]:
    return dict(build().to_dict())


CRONS = {name for name in BUILDERS if name.endswith("-cron")}


@pytest.fixture(params=sorted(BUILDERS.keys() - CRONS))
def rendered(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(BUILDERS[request.param]().to_dict())


def templates_of(rendered: dict[str, Any]) -> list[dict[str, Any]]:
    templates: list[dict[str, Any]] = rendered["spec"]["templates"]
    assert templates
    return templates


def parameters_of(rendered: dict[str, Any]) -> list[dict[str, Any]]:
    return list(rendered["spec"].get("arguments", {}).get("parameters", []))


def test_every_cron_starts_a_template_of_ours_with_parameters_that_it_knows() -> None:
    started = set()
    for name in CRONS:
        spec = BUILDERS[name]().to_dict()["spec"]["workflowSpec"]
        template = spec["workflowTemplateRef"]["name"]
        known = {p["name"] for p in parameters_of(dict(BUILDERS[template]().to_dict()))}
        assert {p["name"] for p in spec.get("arguments", {}).get("parameters", [])} <= known, name
        started.add(template)
    assert started == {"prune", "reaper", "recover", "retrain"}


def test_no_model_may_be_called_like_a_cron_of_ours_which_its_schedule_would_replace() -> None:
    for name in CRONS:
        cron = dict(BUILDERS[name]().to_dict())["metadata"]["name"]
        with pytest.raises(ValidationError, match="is a name that Fineline gives to objects in a cluster"):
            Recipe.model_validate({"name": cron, "data": {"train": "rows.jsonl"}})


@pytest.mark.parametrize("holder", ["restore", "pull"])
def test_a_rollback_holds_its_base_model_until_its_last_step_must_have_ended(holder: str) -> None:
    spec = dict(BUILDERS["rollback"]().to_dict())["spec"]
    by_name = {template["name"]: template for template in spec["templates"]}
    task = next(task for task in by_name["main"]["dag"]["tasks"] if task["name"] == holder)
    held = next(one["value"] for one in task["arguments"]["parameters"] if one["name"] == "hold_hours")
    longest = sum(int(by_name[step]["activeDeadlineSeconds"]) for step in ("restore", "pull", "rollout"))
    assert float(held) * 3600 >= longest


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_same_code_gives_the_same_yaml_and_it_reads_back(name: str) -> None:
    built: Any = BUILDERS[name]()
    text = built.to_yaml()
    assert BUILDERS[name]().to_yaml() == text
    assert type(built).from_yaml(text).to_dict() == built.to_dict()


def test_the_committed_manifests_are_those_of_the_code() -> None:
    assert differences(Path(__file__).parents[3] / "argo") == []


def test_a_manifest_that_differs_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    assert differences(tmp_path) == []
    changed, gone = tmp_path / "base/workflows/finetune.yaml", tmp_path / "base/workflows/cache.yaml"
    changed.write_text(changed.read_text().replace("hours", "days") + "#")
    gone.unlink()
    (tmp_path / "base/workflows/other.yaml").write_text("")
    told = differences(tmp_path)
    assert [line.rpartition("/")[2] for line in told] == [
        "cache.yaml is missing",
        "finetune.yaml differs from the code",
        "other.yaml is not rendered from the code",
    ]


def test_every_argument_is_an_input_and_every_input_is_given(rendered: dict[str, Any]) -> None:
    templates = {t["name"]: t for t in templates_of(rendered)}
    for template in templates.values():
        for task in template.get("dag", {}).get("tasks", []):
            if "templateRef" in task:
                continue
            inputs = {p["name"]: p for p in templates[task["template"]].get("inputs", {}).get("parameters", [])}
            given = {p["name"] for p in task.get("arguments", {}).get("parameters", [])}
            assert given <= inputs.keys(), task["name"]
            assert {n for n, p in inputs.items() if p.get("default") is None} <= given, task["name"]


def test_every_reference_to_a_task_is_to_one_before_it(rendered: dict[str, Any]) -> None:
    """Argo's lint asks that the task is a dependency; ours that it gives what is asked of it too."""
    templates = {t["name"]: t for t in templates_of(rendered)}
    for template in templates.values():
        tasks = {task["name"]: task for task in template.get("dag", {}).get("tasks", [])}
        for task in tasks.values():
            asked = re.findall(r"\{\{tasks\.([\w-]+)\.outputs\.parameters\.([\w-]+)\}\}", json.dumps(task))
            for name, output in asked:
                gives = templates[tasks[name]["template"]]["outputs"]["parameters"]
                assert output in {p["name"] for p in gives}, (task["name"], name, output)
                assert name in _before(tasks, task["name"]), (task["name"], name)


def _before(tasks: dict[str, Any], name: str) -> set[str]:
    direct = {part.strip() for part in tasks[name].get("depends", "").split("&&") if part.strip()}
    return direct.union(*(_before(tasks, one) for one in direct))


def test_every_workflow_parameter_is_asked_for_and_every_one_that_is_asked_for_exists(rendered: dict[str, Any]) -> None:
    known = {p["name"] for p in parameters_of(rendered)}
    asked = set(re.findall(r"\{\{workflow\.parameters\.([\w-]+)\}\}", json.dumps(rendered)))
    # A retraining hands the run that it refers to all of its parameters.
    handed_on = {"approval"} if rendered["metadata"]["name"] == "retrain" else set()
    assert asked == known - handed_on


def test_a_retraining_has_every_parameter_that_the_run_it_refers_to_asks_for() -> None:
    asked = set(re.findall(r"\{\{workflow\.parameters\.([\w-]+)\}\}", json.dumps(BUILDERS["finetune"]().to_dict())))
    known = {p["name"] for p in BUILDERS["retrain"]().to_dict()["spec"]["arguments"]["parameters"]}
    assert asked
    assert asked <= known


def test_every_entrypoint_is_importable_and_no_default_is_null(rendered: dict[str, Any]) -> None:
    for template in templates_of(rendered):
        if "script" in template:
            module, _, function = template["script"]["args"][3].partition(":")
            assert callable(getattr(importlib.import_module(module), function))
        assert all(p.get("default") != "null" for p in template.get("inputs", {}).get("parameters", []))


def test_every_step_is_locked_in_and_tried_again_only_when_its_pod_was_lost(rendered: dict[str, Any]) -> None:
    for template in templates_of(rendered):
        if "script" not in template:
            continue
        security = template["script"]["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["runAsNonRoot"]
        assert not security["allowPrivilegeEscalation"]
        assert security["capabilities"]["drop"] == ["ALL"]
        assert template["activeDeadlineSeconds"]
        retries = template["retryStrategy"]
        assert "maxDuration" not in retries["backoff"]
        assert "OOMKilled" in retries["expression"]
        limits = template["script"]["resources"]
        assert limits["requests"].keys() == limits["limits"].keys() == {"cpu", "memory"}
    assert rendered["spec"]["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"


def test_admission_knows_each_of_our_templates_and_no_other() -> None:
    file = Path(__file__).parents[3] / "argo" / "base" / "admission" / "workflows.yaml"
    policy = next(yaml.safe_load_all(file.read_text()))
    (known,) = [one["expression"] for one in policy["spec"]["variables"] if one["name"] == "templates"]
    assert ast.literal_eval(known) == sorted(BUILDERS.keys() - CRONS)


def test_only_the_steps_that_need_it_have_an_account_that_may_more(rendered: dict[str, Any]) -> None:
    accounts = {t["name"]: t["serviceAccountName"] for t in templates_of(rendered) if "script" in t}
    more = {
        "rollout": "fineline-rollout",
        "recover": "fineline-rollout",
        "stop-serving": "fineline-rollout",
        "provision": "fineline-provision",
        "release": "fineline-provision",
    }
    more |= {
        "release-node": "fineline-provision",
        "reap": "fineline-provision",
        "pull": "fineline-pull",
        "prune": "fineline-prune",
    }
    more |= {"plan": "fineline-plan", "check": "fineline-plan"}
    assert accounts == {name: more.get(name, "fineline-step") for name in accounts}


def test_only_what_may_do_something_in_kubernetes_can_have_a_token(rendered: dict[str, Any]) -> None:
    steps = {t["name"]: t for t in templates_of(rendered) if "script" in t}
    calls = {name for name, step in steps.items() if step["serviceAccountName"] != "fineline-step"}
    have = {name for name, step in steps.items() if step.get("automountServiceAccountToken", True)}
    assert have == steps.keys() & calls
    assert rendered["spec"]["executor"] == {"serviceAccountName": "fineline-executor"}


def test_only_what_fetches_models_or_data_leaves_the_cluster(rendered: dict[str, Any]) -> None:
    steps = {t["name"]: t.get("metadata", {}).get("labels", {}) for t in templates_of(rendered) if "script" in t}
    label = "fineline.dev/reaches"
    reaching = {name: labels[label] for name, labels in steps.items() if label in labels}
    assert reaching == dict.fromkeys(steps.keys() & {"plan", "pull", "check", "pin"}, "internet")


def test_what_takes_a_file_from_a_person_has_neither_mlflows_password_nor_the_models() -> None:
    assert given_to("receive") == ({"runs"}, {"FINELINE_RUNS"})
    assert given_to("backup") == ({"runs"}, {"FINELINE_RUNS", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"})


def given_to(name: str) -> tuple[set[str], set[str]]:
    """Return the volumes and the settings of the pod of a workflow with one step."""
    (step,) = [one for one in templates_of(dict(BUILDERS[name]().to_dict())) if "script" in one]
    claims = {one["name"] for one in step["volumes"] if "persistentVolumeClaim" in one}
    mounted = {one["name"] for one in step["script"]["volumeMounts"]} - {"tmp"}
    assert claims == mounted
    return claims, {one["name"] for one in step["script"]["env"]} - {"hera__outputs_directory"}


def test_what_a_pause_gives_has_a_default_so_that_skipping_it_does_not_end_the_run(workflow: dict[str, Any]) -> None:
    (pause,) = [template for template in templates_of(workflow) if "suspend" in template]
    given = pause["outputs"]["parameters"]
    assert given
    assert all("default" in p["valueFrom"] for p in given)


def test_no_other_workflow_has_a_pause() -> None:
    pausing = {name for name in BUILDERS.keys() - CRONS if '"suspend"' in json.dumps(BUILDERS[name]().to_dict())}
    assert pausing == {"finetune"}


@pytest.mark.parametrize("name", sorted(BUILDERS.keys() - CRONS - {"reaper"}))
def test_every_enum_contains_its_value_and_every_parameter_is_described(name: str) -> None:
    parameters = parameters_of(dict(BUILDERS[name]().to_dict()))
    assert parameters
    for parameter in parameters:
        assert parameter["description"]
        assert parameter["value"] in parameter.get("enum", [parameter["value"]])


def test_the_order_of_the_steps(workflow: dict[str, Any]) -> None:
    after = {task.name: set(task.after) for task in read(workflow).tasks}
    assert after["provision"] == after["pull"] == after["tokenizer"] == {"plan"}
    assert after["prepare"] == {"tokenizer"}
    assert after["tune"] == {"provision", "pull", "prepare"}
    assert after["rollout"] == {"approve"}
    assert [t.name for t in read(workflow).on_exit] == ["release"]


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ("spec", "parallelism", 2),
        ("spec", "podSpecPatch", "{}"),
        ("template", "podSpecPatch", "{}"),
        ("template", "memoize", {"key": "a"}),
        ("script", "workingDir", "/tmp"),
        ("task", "withItems", [1, 2]),
        ("task", "when", "{{=1 == 1}}"),
        ("task", "when", "a == b || c == d"),
        ("task", "templateRef", {"name": "other", "template": "main"}),
        ("pause", "duration", "1h"),
        ("task", "depends", "plan.Failed"),
        ("task", "hooks", {"exit": {"template": "release"}}),
    ],
)
def test_what_is_not_understood_is_refused_by_name(workflow: dict[str, Any], place: str, key: str, value: Any) -> None:
    script = next(t for t in workflow["spec"]["templates"] if t["name"] == "tune")
    dag = next(t for t in workflow["spec"]["templates"] if t["name"] == "main")["dag"]
    pause = next(t for t in workflow["spec"]["templates"] if t["name"] == "approve")["suspend"]
    places = {
        "spec": workflow["spec"],
        "template": script,
        "script": script["script"],
        "task": dag["tasks"][-1],
        "pause": pause,
    }
    places[place][key] = value
    with pytest.raises(UnsupportedError) as caught:
        read(workflow)
    assert "does not support" in str(caught.value)
    assert repr(value if key in ("when", "depends") else key) in str(caught.value)


def test_an_artifact_that_has_to_be_kept_is_refused(workflow: dict[str, Any]) -> None:
    evaluate = next(t for t in workflow["spec"]["templates"] if t["name"] == "evaluate")
    read(workflow)
    del evaluate["outputs"]["artifacts"][0]["optional"]
    with pytest.raises(UnsupportedError, match="'page' is not optional"):
        read(workflow)


def test_references_are_filled_in_once() -> None:
    assert fill("a {{x}} b", {"x": "{{y}}", "y": "no"}) == "a {{y}} b"
    with pytest.raises(UnknownReferenceError, match="refers to nothing"):
        fill("{{tasks.plan.outputs.parameters.nothing}}", {})


def loaded(program: str, *modules: str) -> list[str]:
    """Return which of the modules are loaded when the program is done."""
    probe = f"import sys\n{program}\nprint([name for name in {modules!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stderr.replace("'", '"'))
    return found


def test_help_loads_nothing_heavy_and_no_command_line_loads_torch() -> None:
    build = "import pipelines.workflows.finetune\npipelines.workflows.finetune.build()"
    assert loaded(build, "torch", "transformers", "mlflow", "peft") == []
    told = "from pipelines.command import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    assert loaded(told, "hera", "pydantic", "kubernetes", "numpy", "rich") == []
    shown = subprocess.run([sys.executable, "-m", "pipelines.command", "--help"], capture_output=True, text=True)
    assert "run the whole workflow on this machine" in shown.stdout
