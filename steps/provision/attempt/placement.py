"""Where the pods that compute run, and the resources that they request: a patch of their spec, which Argo applies."""

import json
from typing import Any

from steps.common.handover.resolved import Rung
from steps.common.nodes.gpu_nodes import GPU

GRACE_SECONDS = 120  # for a training to end its step and write a checkpoint when its node is taken away


def placement(
    rung: Rung, *, selector: dict[str, str] | None = None, affinity: dict[str, Any] | None = None, own_taint: str = ""
) -> str:
    """Return the patch as JSON.

    Args:
        rung: the hardware.
        selector: labels of the nodes.
        affinity: node affinity, in place of labels.
        own_taint: key of the taint that keeps other pods away.
    """
    memory = {"memory": str(rung.host_bytes)} if rung.host_bytes else {}
    gpus = {GPU: str(rung.gpus)} if rung.gpus else {}
    main = {"name": "main", "resources": {"requests": {**memory, **gpus}, **({"limits": gpus} if gpus else {})}}
    patch: dict[str, Any] = {"containers": [main], "terminationGracePeriodSeconds": GRACE_SECONDS}
    if selector:
        patch["nodeSelector"] = selector
    if affinity:
        patch["affinity"] = affinity
    if gpus:
        patch["tolerations"] = tolerations(own_taint)
    return json.dumps(patch)


def replacements(current: Rung, ladder: list[Rung]) -> list[Rung]:
    """Return the rungs on which a run that is planned for `current` can continue: as many GPUs, each with as much memory.

    A NodePool allows each of its instance types with each of its capacity types. Combinations that are not on the ladder may
    exceed the run's limits, so only types are returned that share the same capacity types.
    """
    fit = [rung for rung in ladder if rung.gpus == current.gpus and rung.available_bytes >= current.available_bytes]
    capacities: dict[str, set[str]] = {}
    for rung in fit:
        capacities.setdefault(rung.instance_type, set()).add(rung.capacity)
    if capacities[current.instance_type] == set().union(*capacities.values()):
        return [rung for rung in fit if capacities[rung.instance_type] == capacities[current.instance_type]]
    return [rung for rung in fit if rung.capacity == current.capacity]


def tolerations(own_taint: str = "") -> list[dict[str, str]]:
    """Return tolerations for a GPU node's taints: the one that clouds and device plugins set, and our own."""
    keys = [GPU, *([own_taint] if own_taint else [])]
    return [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]
