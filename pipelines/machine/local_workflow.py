"""Reads a built workflow into what a run on one machine needs; what it would not honour is refused by name.

Settings that only place a pod on a cluster (image, account, security), guard it against a cluster's accidents (retries
of a lost pod, deadlines) or tidy up after it have no meaning for a process of this machine and are passed over; they are
listed, so that nothing else is. So are values that come from a ConfigMap or a Secret: here a step has the environment of
whoever runs it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.workflows.parameters import PLACED
from steps.common.runtime.errors import UserError

OF_A_CLUSTERS_WORKFLOW = {
    "serviceAccountName",
    "securityContext",
    "podGC",
    "ttlStrategy",
    "workflowMetadata",
    "synchronization",  # of runs on one machine, each step holds a lock on what it writes
}
OF_A_POD = {"metadata", "serviceAccountName", "activeDeadlineSeconds", "retryStrategy"}
OF_A_CONTAINER = {"image", "imagePullPolicy", "envFrom", "resources", "securityContext"}
RUNNER = ["-m", "hera.workflows.runner", "-e"]
EQUALS = re.compile(r"\s*(?P<left>\S+)\s*==\s*(?P<right>\S+)\s*")


class UnsupportedError(UserError):
    """The workflow uses something that a run on one machine does not know."""


@dataclass(frozen=True)
class Mount:
    """A volume and where the step finds it."""

    volume: str
    path: str


@dataclass(frozen=True)
class Script:
    """A template that runs a step: the runner's entrypoint with its surroundings."""

    name: str
    entrypoint: str
    inputs: dict[str, str | None]  # name to default
    outputs: dict[str, str]  # name to path
    env: dict[str, str]
    mounts: list[Mount]


@dataclass(frozen=True)
class Pause:
    """A template that waits for a person's word; when it is skipped its outputs have their defaults."""

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
    when: list[tuple[str, str]]  # pairs of texts that must be the same once their references are filled in


@dataclass(frozen=True)
class LocalWorkflow:
    """A workflow: the tasks of its entrypoint and of its exit handler, in the order in which they were written."""

    name: str
    tasks: list[WorkflowTask]
    on_exit: list[WorkflowTask]
    parameters: dict[str, str] = field(default_factory=dict)


def read(workflow: Mapping[str, Any]) -> LocalWorkflow:
    """Read a workflow's `to_dict()`.

    Raises:
        UnsupportedError: it uses a feature that would be ignored here; the text names it and where it stands.
    """
    where = f"workflow {workflow['metadata'].get('name', '')}"
    spec = workflow["spec"]
    _only(where, spec, {"entrypoint", "onExit", "templates", "arguments"} | OF_A_CLUSTERS_WORKFLOW)
    _only(where, spec.get("arguments", {}), {"parameters"})
    templates = {template["name"]: template for template in spec["templates"]}
    parameters = {p["name"]: str(p["value"]) for p in spec.get("arguments", {}).get("parameters", [])}
    on_exit = _tasks(templates, spec["onExit"]) if "onExit" in spec else []
    return LocalWorkflow(
        workflow["metadata"].get("name", ""), _tasks(templates, spec["entrypoint"]), on_exit, parameters
    )


def _only(where: str, given: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(key for key, value in given.items() if key not in known and value not in (None, {}, []))
    if unknown:
        raise UnsupportedError(f"{where}: a run on one machine does not understand {unknown[0]!r}")


def _tasks(templates: dict[str, dict[str, Any]], name: str) -> list[WorkflowTask]:
    template = templates[name]
    where = f"template {name}"
    _only(where, template, {"name", "dag"})
    _only(where, template["dag"], {"tasks"})
    return [_task(templates, task) for task in template["dag"]["tasks"]]


def _task(templates: dict[str, dict[str, Any]], task: dict[str, Any]) -> WorkflowTask:
    where = f"task {task['name']}"
    _only(where, task, {"name", "template", "arguments", "depends", "when"})
    _only(where, task.get("arguments", {}), {"parameters"})
    arguments = {}
    for parameter in task.get("arguments", {}).get("parameters", []):
        _only(f"{where}, argument {parameter['name']}", parameter, {"name", "value"})
        arguments[parameter["name"]] = str(parameter["value"])
    template = templates[task["template"]]
    does = _pause(template) if "suspend" in template else _script(template)
    unknown = sorted(arguments.keys() - does.inputs.keys())
    if unknown:
        raise UnsupportedError(f"{where}: its template has no input {unknown[0]!r}")
    after = [part.strip() for part in task.get("depends", "").split("&&") if part.strip()]
    if odd := [part for part in after if not re.fullmatch(r"[\w-]+", part)]:
        raise UnsupportedError(f"{where}: a run on one machine does not understand the dependency {odd[0]!r}")
    return WorkflowTask(task["name"], does, arguments, after, _when(where, task.get("when")))


def _when(where: str, text: str | None) -> list[tuple[str, str]]:
    matches = [EQUALS.fullmatch(part) for part in text.split("&&")] if text else []
    if not all(matches) or "{{=" in (text or ""):
        raise UnsupportedError(f"{where}: a run on one machine does not understand the condition {text!r}")
    return [(match["left"], match["right"]) for match in matches if match]


def _pause(template: dict[str, Any]) -> Pause:
    where = f"template {template['name']}"
    _only(where, template, {"name", "inputs", "outputs", "suspend"})
    _only(where, template["suspend"], set())
    inputs = {p["name"]: p.get("default") for p in template.get("inputs", {}).get("parameters", [])}
    outputs = template.get("outputs", {}).get("parameters", [])
    return Pause(template["name"], inputs, {p["name"]: p["valueFrom"]["default"] for p in outputs})


def _script(template: dict[str, Any]) -> Script:
    where = f"template {template['name']}"
    placed = {"podSpecPatch"} if template.get("podSpecPatch") == PLACED else set()
    _only(where, template, {"name", "inputs", "outputs", "script", "volumes"} | OF_A_POD | placed)
    _only(where, template.get("inputs", {}), {"parameters"})
    _only(where, template.get("outputs", {}), {"parameters", "artifacts"})
    if kept := [a["name"] for a in template.get("outputs", {}).get("artifacts", []) if not a.get("optional")]:
        raise UnsupportedError(f"{where}: a run on one machine keeps no artifacts, and {kept[0]!r} is not optional")
    script = template["script"]
    _only(where, script, {"source", "command", "args", "env", "volumeMounts"} | OF_A_CONTAINER)
    if script["args"][:3] != RUNNER or script["source"] != "{{inputs.parameters}}":
        raise UnsupportedError(f"{where}: a run on one machine does not understand a script without Hera's runner")
    inputs, outputs, env, mounts = {}, {}, {}, []
    for parameter in template.get("inputs", {}).get("parameters", []):
        _only(f"{where}, input {parameter['name']}", parameter, {"name", "default", "description", "enum"})
        inputs[parameter["name"]] = parameter.get("default")
    for parameter in template.get("outputs", {}).get("parameters", []):
        _only(f"{where}, output {parameter['name']}", parameter, {"name", "valueFrom", "description"})
        _only(f"{where}, output {parameter['name']}", parameter["valueFrom"], {"path"})
        outputs[parameter["name"]] = parameter["valueFrom"]["path"]
    for variable in script.get("env", []):
        _only(f"{where}, environment variable {variable['name']}", variable, {"name", "value", "valueFrom"})
        if "value" in variable:
            env[variable["name"]] = variable["value"]
    claimed = {volume["name"] for volume in template.get("volumes", []) if "persistentVolumeClaim" in volume}
    for mount in script.get("volumeMounts", []):
        _only(f"{where}, volume {mount['name']}", mount, {"name", "mountPath", "readOnly"})
        if mount["name"] in claimed:  # the others are empty at the start: this machine's own /tmp
            mounts.append(Mount(mount["name"], mount["mountPath"]))
    return Script(template["name"], script["args"][3], inputs, outputs, env, mounts)
