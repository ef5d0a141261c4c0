"""The two patches of pod specifications that the workflows have: fixed texts, never one that a step hands on.

Argo fills the tags of a patch in, merges the result into the pod, and fills in whatever looks like a tag once more. A value
that is merely quoted can therefore still contain an expression that adds fields to the pod. Here, each value is a number, or
loses every character that is not part of a label: neither can end a JSON string or begin a tag.
https://github.com/argoproj/argo-workflows/blob/v4.1.2/workflow/controller/workflowpod.go (processPodSpecPatch)

The expressions use only calls, strings, `+`, `==` and `>`, and no two braces in a row, which would end the tag.
"""

import json
from typing import Any

from steps.common.nodes.gpu_nodes import GPU, PRODUCT_LABEL, TYPE_LABEL
from steps.common.nodes.pod_placement import RUN_TAINT

INPUT = "placement"  # the input of a placed step
NOT_IN_LABELS = "[^A-Za-z0-9._/-]"
# Argo's own containers: `init` puts the step's code into the pod, `wait` reports its outputs. They take 20 to 60 MiB.
EXECUTOR_RESOURCES = {
    "requests": {"cpu": "10m", "memory": "64Mi"},
    "limits": {"cpu": "500m", "memory": "512Mi"},
}
# The Pod Security Standard `restricted` asks this of every container, and Argo sets it on its own only where its controller is
# configured so. Their file system stays writable: https://github.com/argoproj/argo-workflows/issues/10787
EXECUTOR_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
}
EXECUTOR = json.dumps(
    {
        kind: [{"name": name, "resources": EXECUTOR_RESOURCES, "securityContext": EXECUTOR_SECURITY}]
        for kind, name in (("initContainers", "init"), ("containers", "wait"))
    }
)


def _field(name: str) -> str:
    return f"jsonpath(inputs.parameters.{INPUT}, '$.{name}')"


def _label(name: str) -> str:
    return f"sprig.regexReplaceAll('{NOT_IN_LABELS}', {_field(name)}, '')"


def _number(name: str) -> str:
    return f"asInt({_field(name)})"


def _tag(expression: str) -> str:
    assert "}}" not in expression
    assert "{{" not in expression
    return f"{{{{={expression}}}}}"


def _members(of: dict[str, Any], condition: str) -> str:
    """Return a tag that gives the members of an object, each with a comma, if the condition holds.

    The values are plain, or, between two bars, an expression that gives a text: `|EXPRESSION|`.
    """
    text = json.dumps(of)[1:-1] + ", "
    while "}}" in text or "{{" in text:
        text = text.replace("}}", "} }").replace("{{", "{ {")
    parts = [f"'{part}'" if number % 2 == 0 else part for number, part in enumerate(text.split("|"))]
    return _tag(f"sprig.ternary({' + '.join(parts)}, '', {condition})")


def _placed() -> str:
    some_gpus = f"{_number('gpus')} > 0"
    tolerations = [
        {"key": GPU, "operator": "Exists", "effect": "NoSchedule"},
        {"key": RUN_TAINT, "operator": "Equal", "value": f"|{_label('run_taint')}|", "effect": "NoSchedule"},
    ]
    terms = [
        {"matchExpressions": [{"key": key, "operator": "In", "values": [f"|{_label('instance_type')}|"]}]}
        for key in (TYPE_LABEL, PRODUCT_LABEL)
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    gpus = _members({GPU: f"|{_text_of_number('gpus')}|"}, some_gpus)
    return (
        f'{{ "nodeSelector": {{ "{_tag(_label("node_label"))}": "{_tag(_label("node_value"))}" }}, '
        + _members({"affinity": {"nodeAffinity": required}}, f"{_label('instance_type')} > ''")
        + _members({"tolerations": tolerations}, some_gpus)
        + '"containers": [ { "name": "main", "resources": { '
        + f'"requests": {{ {gpus}{_amounts("cpu_millis", "memory_bytes")} }}, '
        + f'"limits": {{ {gpus}{_amounts("cpu_limit_millis", "memory_limit_bytes")} }} }} }} ], '
        + f'"terminationGracePeriodSeconds": {_tag(_number("grace_seconds"))} }}'
    )


def _text_of_number(name: str) -> str:
    return f"toJson({_number(name)})"


def _amounts(cpu: str, memory: str) -> str:
    return f'"cpu": "{_tag(_number(cpu))}m", "memory": "{_tag(_number(memory))}"'


# For a step with the input `placement`, a `Placement` as JSON: its node, and the resources of its own container.
PLACED = _placed()
