"""Where the pods that compute have to run, and what they ask for there: a patch of their spec, which Argo applies."""

import json
from typing import Any

from steps.common.handover.resolved import Rung
from steps.common.nodes.gpu_nodes import GPU

GRACE_SECONDS = 120  # for a training to end its step and write a checkpoint when its node goes


def placement(
    rung: Rung, *, selector: dict[str, str] | None = None, affinity: dict[str, Any] | None = None, own_taint: str = ""
) -> str:
    """Return the patch as JSON.

    Args:
        rung: what was got.
        selector: labels of the nodes.
        affinity: in place of labels, terms of the nodes.
        own_taint: key of a taint that keeps everybody else's pods away.
    """
    asked = {"memory": str(rung.host_bytes)} if rung.host_bytes else {}
    gpus = {GPU: str(rung.gpus)} if rung.gpus else {}
    main = {"name": "main", "resources": {"requests": {**asked, **gpus}, **({"limits": gpus} if gpus else {})}}
    patch: dict[str, Any] = {"containers": [main], "terminationGracePeriodSeconds": GRACE_SECONDS}
    if selector:
        patch["nodeSelector"] = selector
    if affinity:
        patch["affinity"] = affinity
    if gpus:
        patch["tolerations"] = tolerations(own_taint)
    return json.dumps(patch)


def in_its_place(got: Rung, ladder: list[Rung]) -> list[Rung]:
    """Return the rungs on which a run that was planned for `got` could go on: as many GPUs, and none with less memory.

    A NodePool allows each of its instance types in each of its ways of buying. So that it allows nothing that is not on the
    ladder, which may be over the run's limits, the ways are those that all of its types have there.
    """
    fit = [rung for rung in ladder if rung.gpus == got.gpus and rung.available_bytes >= got.available_bytes]
    ways: dict[str, set[str]] = {}
    for rung in fit:
        ways.setdefault(rung.instance_type, set()).add(rung.capacity)
    if ways[got.instance_type] == set().union(*ways.values()):
        return [rung for rung in fit if ways[rung.instance_type] == ways[got.instance_type]]
    return [rung for rung in fit if rung.capacity == got.capacity]


def tolerations(own_taint: str = "") -> list[dict[str, str]]:
    """Return what a GPU node's taints are met with: the one that clouds and device plugins use, and our own."""
    keys = [GPU, *([own_taint] if own_taint else [])]
    return [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]
