"""Reads a built workflow into what a run on one machine needs; what it would not honour is refused by name.

Settings that only place a container on a cluster (image, security context) have no meaning here and are passed over;
they are listed, so that nothing else is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ONLY_ON_A_CLUSTER = {"image", "securityContext"}
RUNNER = ["-m", "hera.workflows.runner", "-e"]
EQUALS = re.compile(r"\s*(?P<left>\S+)\s*==\s*(?P<right>\S+)\s*")


class UnsupportedError(Exception):
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
class Task:
    """A task of a DAG."""

    name: str
    script: Script
    arguments: dict[str, str]
    after: list[str]
    when: tuple[str, str] | None  # two texts that must be the same once their references are filled in


@dataclass(frozen=True)
class Machine:
    """A workflow: the tasks of its entrypoint and of its exit handler, in the order in which they were written."""

    name: str
    tasks: list[Task]
    on_exit: list[Task]
    parameters: dict[str, str] = field(default_factory=dict)


def read(workflow: Mapping[str, Any]) -> Machine:
    """Read a workflow's `to_dict()`.

    Raises:
        UnsupportedError: it uses a feature that would be ignored here; the text names it and where it stands.
    """
    where = f"workflow {workflow['metadata'].get('name', '')}"
    spec = workflow["spec"]
    _only(where, spec, {"entrypoint", "onExit", "templates", "arguments"})
    _only(where, spec.get("arguments", {}), {"parameters"})
    templates = {template["name"]: template for template in spec["templates"]}
    parameters = {p["name"]: str(p["value"]) for p in spec.get("arguments", {}).get("parameters", [])}
    on_exit = _tasks(templates, spec["onExit"]) if "onExit" in spec else []
    return Machine(workflow["metadata"].get("name", ""), _tasks(templates, spec["entrypoint"]), on_exit, parameters)


def _only(where: str, given: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(key for key, value in given.items() if key not in known and value not in (None, {}, []))
    if unknown:
        raise UnsupportedError(f"{where}: a run on one machine does not understand {unknown[0]!r}")


def _tasks(templates: dict[str, dict[str, Any]], name: str) -> list[Task]:
    template = templates[name]
    where = f"template {name}"
    _only(where, template, {"name", "dag"})
    _only(where, template["dag"], {"tasks"})
    return [_task(templates, task) for task in template["dag"]["tasks"]]


def _task(templates: dict[str, dict[str, Any]], task: dict[str, Any]) -> Task:
    where = f"task {task['name']}"
    _only(where, task, {"name", "template", "arguments", "depends", "when"})
    _only(where, task.get("arguments", {}), {"parameters"})
    arguments = {}
    for parameter in task.get("arguments", {}).get("parameters", []):
        _only(f"{where}, argument {parameter['name']}", parameter, {"name", "value"})
        arguments[parameter["name"]] = str(parameter["value"])
    script = _script(templates[task["template"]])
    unknown = sorted(arguments.keys() - script.inputs.keys())
    if unknown:
        raise UnsupportedError(f"{where}: its template has no input {unknown[0]!r}")
    after = [part.strip() for part in task.get("depends", "").split("&&") if part.strip()]
    if odd := [part for part in after if not re.fullmatch(r"[\w-]+", part)]:
        raise UnsupportedError(f"{where}: a run on one machine does not understand the dependency {odd[0]!r}")
    return Task(task["name"], script, arguments, after, _when(where, task.get("when")))


def _when(where: str, text: str | None) -> tuple[str, str] | None:
    if not text:
        return None
    match = EQUALS.fullmatch(text)
    if not match or "{{=" in text:
        raise UnsupportedError(f"{where}: a run on one machine does not understand the condition {text!r}")
    return match["left"], match["right"]


def _script(template: dict[str, Any]) -> Script:
    where = f"template {template['name']}"
    _only(where, template, {"name", "inputs", "outputs", "script", "volumes"})
    _only(where, template.get("inputs", {}), {"parameters"})
    _only(where, template.get("outputs", {}), {"parameters"})
    script = template["script"]
    _only(where, script, {"source", "command", "args", "env", "volumeMounts"} | ONLY_ON_A_CLUSTER)
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
        _only(f"{where}, environment variable {variable['name']}", variable, {"name", "value"})
        env[variable["name"]] = variable["value"]
    for mount in script.get("volumeMounts", []):
        _only(f"{where}, volume {mount['name']}", mount, {"name", "mountPath", "readOnly"})
        mounts.append(Mount(mount["name"], mount["mountPath"]))
    return Script(template["name"], script["args"][3], inputs, outputs, env, mounts)
