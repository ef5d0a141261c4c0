"""The NodePool with which a run requests nodes: what may be bought, how many, and that none is disrupted meanwhile."""

from typing import Any

from steps.common.handover.resolved import Rung
from steps.common.kubernetes.cluster_objects import NODE_POOLS
from steps.common.nodes import node_request
from steps.common.nodes.gpu_nodes import GPU, TYPE_LABEL
from steps.common.nodes.pod_placement import RUN_TAINT
from steps.common.runtime import cluster_settings

# Longer than a pod's grace period, in which a training ends its step and writes a checkpoint. Without a limit, a pod that hangs
# could keep a node forever. With the reaper's interval of five minutes and its grace of two, nothing is left after ten.
DRAIN = "3m"


def node_pool(run: str, reference: dict[str, str], rungs: list[Rung]) -> dict[str, Any]:
    """Return the pool.

    Args:
        run: its name.
        reference: to the NodeClass.
        rungs: what may be bought: one at a time until there is a node, then everything that may replace it.
    """
    metadata = node_request.metadata(run, cluster_settings.namespace())
    return {
        "apiVersion": f"{NODE_POOLS.group}/{NODE_POOLS.version}",
        "kind": "NodePool",
        "metadata": metadata,
        "spec": {
            # The limit counts the GPUs of whole nodes: room for one node at a time.
            "limits": {GPU: str(max(rung.node_gpus for rung in rungs))},
            "disruption": {
                "consolidationPolicy": "WhenEmpty",
                "consolidateAfter": "30s",
                "budgets": [{"nodes": "0"}],  # no disruption while the run lasts; the pool is deleted when it ends
            },
            "template": {
                # Karpenter copies these labels to the pool's NodeClaims: admission lets a namespace delete only its own.
                "metadata": {"labels": metadata["labels"]},
                "spec": {
                    "nodeClassRef": reference,
                    "expireAfter": "Never",
                    "terminationGracePeriod": DRAIN,
                    "taints": [
                        {"key": GPU, "value": "present", "effect": "NoSchedule"},
                        {"key": RUN_TAINT, "value": run, "effect": "NoSchedule"},
                    ],
                    "requirements": [
                        _one_of(TYPE_LABEL, [rung.instance_type for rung in rungs]),
                        _one_of(node_request.CAPACITY_LABEL, [rung.capacity for rung in rungs]),
                        _one_of("kubernetes.io/arch", ["amd64"]),
                        _one_of("kubernetes.io/os", ["linux"]),
                    ],
                },
            },
        },
    }


def _one_of(key: str, values: list[str]) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": list(dict.fromkeys(values))}
