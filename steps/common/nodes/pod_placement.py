"""Where the pods that compute a run go, and what they take of their node: typed values, which a step hands to the next ones.

The workflow's one fixed patch (`pipelines/workflows/pod_patch.py`) turns them into fields of a step's pod; `scheduling` and
`resources` turn the same values into the fields of a pod that a step creates itself.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from steps.common.nodes.gpu_nodes import GPU, PRODUCT_LABEL, TYPE_LABEL

RUN_TAINT = "fineline.dev/run"  # keeps other pods off the nodes that a run has bought; its value is the run
ANY_LABEL, ANY_VALUE = "kubernetes.io/os", "linux"  # of every node
GRACE_SECONDS = 120  # for a training to end its step and write a checkpoint when its node is taken away

LabelKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9./_-]{1,317}$")]
LabelValue = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,63}$")]


class Placement(BaseModel):
    """The nodes that may run a pod, and the pod's requests and limits. Keys that it does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    node_label: LabelKey = ANY_LABEL  # the nodes' label, and the value that it has
    node_value: LabelValue = ANY_VALUE
    instance_type: LabelValue = ""  # of the nodes, or their GPU where they have no such label; empty: any
    run_taint: LabelValue = ""  # value of the taint that reserves the nodes for the run; empty: they have none
    gpus: int = Field(default=0, ge=0)
    cpu_millis: int = Field(default=100, gt=0)  # thousandths of a CPU that the pod requests
    cpu_limit_millis: int = Field(default=32_000, gt=0)
    memory_bytes: int = Field(default=2 << 30, gt=0)  # that the pod requests
    memory_limit_bytes: int = Field(default=4 << 30, gt=0)
    grace_seconds: int = Field(default=GRACE_SECONDS, ge=0, le=3600)


def scheduling(placement: Placement) -> dict[str, Any]:
    """Return the fields of a pod's specification that select its node."""
    found: dict[str, Any] = {"nodeSelector": {placement.node_label: placement.node_value}}
    if placement.instance_type:
        terms = [
            {"matchExpressions": [{"key": key, "operator": "In", "values": [placement.instance_type]}]}
            for key in (TYPE_LABEL, PRODUCT_LABEL)
        ]
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
        found["affinity"] = {"nodeAffinity": required}
    if placement.gpus:
        found["tolerations"] = [
            # The taint that clouds and device plugins set on a node with GPUs, and the run's own.
            {"key": GPU, "operator": "Exists", "effect": "NoSchedule"},
            {"key": RUN_TAINT, "operator": "Equal", "value": placement.run_taint, "effect": "NoSchedule"},
        ]
    return found


def resources(placement: Placement) -> dict[str, Any]:
    """Return the requests and limits of the pod's container."""
    gpus = {GPU: str(placement.gpus)} if placement.gpus else {}
    return {
        "requests": {**gpus, "memory": str(placement.memory_bytes), "cpu": f"{placement.cpu_millis}m"},
        "limits": {**gpus, "memory": str(placement.memory_limit_bytes), "cpu": f"{placement.cpu_limit_millis}m"},
    }
