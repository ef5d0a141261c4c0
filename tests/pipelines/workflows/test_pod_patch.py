"""The fixed patches of pod specifications: what a step hands on changes the values of known fields, and adds none."""

import base64
import json
from typing import Any

import pytest

from pipelines.workflows.pod_patch import EXECUTOR, PLACED
from pipelines.workflows.rendered import BUILDERS
from steps.common.nodes.pod_placement import Placement, resources, scheduling
from tests.support.argo_patch import filled_in

BOUGHT = Placement(
    node_label="karpenter.sh/nodepool", node_value="fineline-a-123abc", run_taint="a", gpus=2, memory_bytes=12 << 30
)
SHARED = Placement(instance_type="NVIDIA-A10G", gpus=1, cpu_millis=1000)
ENDS_THE_STRING = 'a"}, "hostNetwork": true, "x": {"y": "'
ENCODED = base64.b64encode(ENDS_THE_STRING.encode()).decode()
DECODES = f"{{{{=sprig.b64dec('{ENCODED}')}}}}"
TWICE = f"{{{{=sprig.b64dec('{base64.b64encode(DECODES.encode()).decode()}')}}}}"
HOSTILE = [
    ENDS_THE_STRING,
    DECODES,
    TWICE,
    "{{workflow.name}}",
    "{{=",
    "}}",
    "a\\",
    "\\u0022",
    "\n",
    {"a": 1},
    [1],
    None,
]


@pytest.mark.parametrize("placement", [Placement(), BOUGHT, SHARED])
def test_a_placed_step_gets_the_fields_that_a_pod_of_our_own_has(placement: Placement) -> None:
    found = json.loads(filled_in(PLACED, placement.model_dump_json()))
    (main,) = found.pop("containers")
    assert main == {"name": "main", "resources": resources(placement)}
    assert found.pop("terminationGracePeriodSeconds") == 120
    assert found == scheduling(placement)


@pytest.mark.parametrize("field", Placement.model_fields)
@pytest.mark.parametrize("value", HOSTILE)
def test_no_value_adds_a_field(field: str, value: Any) -> None:
    given = SHARED.model_dump() | {field: value}
    assert added_by(PLACED, json.dumps(given)) == set()


@pytest.mark.parametrize("given", ['{"hostNetwork": true}', DECODES, TWICE, "", "null", "[]", ENDS_THE_STRING])
def test_no_text_in_place_of_the_values_adds_a_field(given: str) -> None:
    assert added_by(PLACED, given) == set()


def added_by(patch: str, placement: str) -> set[str]:
    """Return the fields that are none of a placement's; a patch that is no JSON creates no pod."""
    try:
        found = json.loads(filled_in(patch, placement))
    except ValueError:
        return set()
    (main,) = found["containers"]
    known = {"nodeSelector", "affinity", "tolerations", "containers", "terminationGracePeriodSeconds"}
    return set(found) - known | set(main) - {"name", "resources"}


@pytest.mark.parametrize(
    ("patch", "given"),
    [
        ("{{=inputs.parameters.placement}}", {"hostNetwork": True}),
        ('{ "nodeSelector": { "a": {{=toJson(jsonpath(inputs.parameters.placement, \'$.a\'))}} } }', {"a": TWICE}),
    ],
)
def test_a_text_that_is_merely_handed_on_or_quoted_would(patch: str, given: dict[str, Any]) -> None:
    """Else the tests above would show nothing. Argo 4.1.2's own code does the same with these two."""
    assert json.loads(filled_in(patch, json.dumps(given)))["hostNetwork"] is True


def test_every_pod_has_one_of_the_two_patches() -> None:
    for name, build in BUILDERS.items():
        rendered = build().to_dict()
        if rendered["kind"] != "WorkflowTemplate":
            continue
        assert rendered["spec"]["podSpecPatch"] == EXECUTOR, name
        for template in rendered["spec"]["templates"]:
            inputs = [p["name"] for p in template.get("inputs", {}).get("parameters", [])]
            assert template.get("podSpecPatch") == (PLACED if "placement" in inputs else None), template["name"]
