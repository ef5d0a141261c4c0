"""Finds runs whose pods wait for a node that has been given back, as after a retry in Argo's UI of a run that had ended.

Argo starts a retry at the step that failed, with the outputs of the steps before it, including the placement on a node that
no longer exists. Nothing would ever start those pods.
"""

from steps.common.kubernetes import client
from steps.common.kubernetes.cluster_objects import (
    COMPUTE_CLASS_LABEL,
    COMPUTE_CLASSES,
    NODE_POOL_LABEL,
    NODE_POOLS,
)
from steps.common.kubernetes.resource import Resource
from steps.common.nodes import node_request

WORKFLOW_LABEL = "workflows.argoproj.io/workflow"
WHY = (
    "its node was given back when it ended, and a retry does not buy another; submit it again: completed work is reused"
)


def stranded(space: str, kinds: list[Resource], before: float) -> dict[str, str]:
    """Return the runs that wait in vain, and why.

    Args:
        space: the namespace.
        kinds: of the objects with which its runs request nodes.
        before: in seconds since 1970; pods created later are ignored.
    """
    found = {}
    for pod in client.pods(space, WORKFLOW_LABEL, fields="status.phase=Pending"):
        if pod.metadata.creation_timestamp.timestamp() > before:
            continue
        wanted = pod.spec.node_selector or {}
        for label, kind in ((NODE_POOL_LABEL, NODE_POOLS), (COMPUTE_CLASS_LABEL, COMPUTE_CLASSES)):
            run = pod.metadata.labels[WORKFLOW_LABEL]
            ours = wanted.get(label) == node_request.name_of(run, space)
            if ours and kind in kinds and kind.read(wanted[label]) is None:
                found[run] = WHY
    return found
