"""Where the pods that compute have to run, and what they ask for there: a patch of their spec, which Argo applies."""

import json
from typing import Any

from steps.common.gpu_nodes import GPU
from steps.common.resolved import Rung

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


def tolerations(own_taint: str = "") -> list[dict[str, str]]:
    """Return what a GPU node's taints are met with: the one that clouds and device plugins use, and our own."""
    keys = [GPU, *([own_taint] if own_taint else [])]
    return [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]
