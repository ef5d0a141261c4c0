"""Reads a built workflow for a run on one machine, and refuses every feature that such a run does not support.

Some settings mean nothing to a local process: those that place a pod (image, account, security), that handle the failures of
a cluster (retries of a lost pod, deadlines) or that clean up. They are ignored, and listed here so that nothing else is. Values
from a ConfigMap or a Secret are ignored too: a local step has the environment of the user who runs it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.workflows.pod_patch import EXECUTOR, PLACED
from steps.common.runtime.errors import UserError

IGNORED_IN_WORKFLOW = {
    "serviceAccountName",
    "securityContext",
    "podGC",
    "ttlStrategy",
    "workflowMetadata",
    "executor",
    "synchronization",  # on one machine, each step locks what it writes
}
IGNORED_IN_TEMPLATE = {
    "metadata",
    "serviceAccountName",
    "automountServiceAccountToken",
    "activeDeadlineSeconds",
    "retryStrategy",
}
IGNORED_IN_CONTAINER = {"image", "imagePullPolicy", "envFrom", "resources", "securityContext"}
RUNNER = ["-m", "hera.workflows.runner", "-e"]
EQUALS = re.compile(r"\s*(?P<left>\S+)\s*==\s*(?P<right>\S+)\s*")


class UnsupportedError(UserError):
    """The workflow uses a feature that a run on one machine does not support."""


@dataclass(frozen=True)
class Mount:
    """A volume and its mount path."""

    volume: str
    path: str


@dataclass(frozen=True)
class Script:
    """A template that runs a step."""

    name: str
    entrypoint: str  # MODULE:FUNCTION, for Hera's runner
    inputs: dict[str, str | None]  # name to default
    outputs: dict[str, str]  # name to path
    env: dict[str, str]
    mounts: list[Mount]


@dataclass(frozen=True)
class Pause:
    """A template that waits for a person's approval; if it is skipped, its outputs have their defaults."""

    name: str
    inputs: dict[str, str | None]
    defaults: dict[str, str]


@dataclass(frozen=True)
class WorkflowTask:
    """A task of a DAG."""

    name: str
    does: Script | Pause
    arguments: dict[str, str]
    after: list[str]
    when: list[tuple[str, str]]  # pairs of texts that must be equal once references are filled in


@dataclass(frozen=True)
class LocalWorkflow:
    """A workflow: the tasks of its entrypoint and of its exit handler, in the order of the template."""

    name: str
    tasks: list[WorkflowTask]
    on_exit: list[WorkflowTask]
    parameters: dict[str, str] = field(default_factory=dict)


def read(workflow: Mapping[str, Any]) -> LocalWorkflow:
    """Read the dictionary that a workflow's `to_dict()` returns.

    Raises:
        UnsupportedError: the workflow uses a feature that is not supported; the text names the feature and its place.
    """
    where = f"workflow {workflow['metadata'].get('name', '')}"
    spec = workflow["spec"]
    executor = {"podSpecPatch"} if spec.get("podSpecPatch") == EXECUTOR else set()
    _allow_only(where, spec, {"entrypoint", "onExit", "templates", "arguments"} | IGNORED_IN_WORKFLOW | executor)
    _allow_only(where, spec.get("arguments", {}), {"parameters"})
    templates = {template["name"]: template for template in spec["templates"]}
    parameters = {p["name"]: str(p["value"]) for p in spec.get("arguments", {}).get("parameters", [])}
    on_exit = _tasks(templates, spec["onExit"]) if "onExit" in spec else []
    return LocalWorkflow(
        workflow["metadata"].get("name", ""), _tasks(templates, spec["entrypoint"]), on_exit, parameters
    )


def _allow_only(where: str, given: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(key for key, value in given.items() if key not in known and value not in (None, {}, []))
    if unknown:
        raise UnsupportedError(f"{where}: a run on one machine does not support {unknown[0]!r}")


def _tasks(templates: dict[str, dict[str, Any]], name: str) -> list[WorkflowTask]:
    template = templates[name]
    where = f"template {name}"
    _allow_only(where, template, {"name", "dag"})
    _allow_only(where, template["dag"], {"tasks"})
    return [_task(templates, task) for task in template["dag"]["tasks"]]


def _task(templates: dict[str, dict[str, Any]], task: dict[str, Any]) -> WorkflowTask:
    where = f"task {task['name']}"
    _allow_only(where, task, {"name", "template", "arguments", "depends", "when"})
    _allow_only(where, task.get("arguments", {}), {"parameters"})
    arguments = {}
    for parameter in task.get("arguments", {}).get("parameters", []):
        _allow_only(f"{where}, argument {parameter['name']}", parameter, {"name", "value"})
        arguments[parameter["name"]] = str(parameter["value"])
    template = templates[task["template"]]
    does = _pause(template) if "suspend" in template else _script(template)
    unknown = sorted(arguments.keys() - does.inputs.keys())
    if unknown:
        raise UnsupportedError(f"{where}: its template has no input {unknown[0]!r}")
    after = [part.strip() for part in task.get("depends", "").split("&&") if part.strip()]
    if odd := [part for part in after if not re.fullmatch(r"[\w-]+", part)]:
        raise UnsupportedError(f"{where}: a run on one machine does not support the dependency {odd[0]!r}")
    return WorkflowTask(task["name"], does, arguments, after, _when(where, task.get("when")))


def _when(where: str, text: str | None) -> list[tuple[str, str]]:
    matches = [EQUALS.fullmatch(part) for part in text.split("&&")] if text else []
    if not all(matches) or "{{=" in (text or ""):
        raise UnsupportedError(f"{where}: a run on one machine does not support the condition {text!r}")
    return [(match["left"], match["right"]) for match in matches if match]


def _pause(template: dict[str, Any]) -> Pause:
    where = f"template {template['name']}"
    _allow_only(where, template, {"name", "inputs", "outputs", "suspend"})
    _allow_only(where, template["suspend"], set())
    inputs = {p["name"]: p.get("default") for p in template.get("inputs", {}).get("parameters", [])}
    outputs = template.get("outputs", {}).get("parameters", [])
    return Pause(template["name"], inputs, {p["name"]: p["valueFrom"]["default"] for p in outputs})


def _script(template: dict[str, Any]) -> Script:
    where = f"template {template['name']}"
    placed = {"podSpecPatch"} if template.get("podSpecPatch") == PLACED else set()
    _allow_only(where, template, {"name", "inputs", "outputs", "script", "volumes"} | IGNORED_IN_TEMPLATE | placed)
    _allow_only(where, template.get("inputs", {}), {"parameters"})
    _allow_only(where, template.get("outputs", {}), {"parameters", "artifacts"})
    if required := [a["name"] for a in template.get("outputs", {}).get("artifacts", []) if not a.get("optional")]:
        raise UnsupportedError(
            f"{where}: a run on one machine stores no artifacts, but {required[0]!r} is not optional"
        )
    script = template["script"]
    _allow_only(where, script, {"source", "command", "args", "env", "volumeMounts"} | IGNORED_IN_CONTAINER)
    if script["args"][:3] != RUNNER or script["source"] != "{{inputs.parameters}}":
        raise UnsupportedError(f"{where}: a run on one machine supports no script without Hera's runner")
    inputs, outputs, env, mounts = {}, {}, {}, []
    for parameter in template.get("inputs", {}).get("parameters", []):
        _allow_only(f"{where}, input {parameter['name']}", parameter, {"name", "default", "description", "enum"})
        inputs[parameter["name"]] = parameter.get("default")
    for parameter in template.get("outputs", {}).get("parameters", []):
        _allow_only(f"{where}, output {parameter['name']}", parameter, {"name", "valueFrom", "description"})
        _allow_only(f"{where}, output {parameter['name']}", parameter["valueFrom"], {"path"})
        outputs[parameter["name"]] = parameter["valueFrom"]["path"]
    for variable in script.get("env", []):
        _allow_only(f"{where}, environment variable {variable['name']}", variable, {"name", "value", "valueFrom"})
        if "value" in variable:
            env[variable["name"]] = variable["value"]
    claimed = {volume["name"] for volume in template.get("volumes", []) if "persistentVolumeClaim" in volume}
    for mount in script.get("volumeMounts", []):
        _allow_only(f"{where}, volume {mount['name']}", mount, {"name", "mountPath", "readOnly"})
        if mount["name"] in claimed:  # the others start empty; this machine's /tmp does as well
            mounts.append(Mount(mount["name"], mount["mountPath"]))
    return Script(template["name"], script["args"][3], inputs, outputs, env, mounts)
