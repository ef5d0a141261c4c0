"""Objects of the whole cluster that runs create, read and delete: NodePools, NodeClaims, ComputeClasses."""

from datetime import datetime
from typing import Any

from steps.common.kubernetes.resource import Resource

NODE_POOLS = Resource("karpenter.sh", "nodepools")
NODE_CLAIMS = Resource("karpenter.sh", "nodeclaims")
COMPUTE_CLASSES = Resource("cloud.google.com", "computeclasses")
NODE_POOL_LABEL = "karpenter.sh/nodepool"  # of NodeClaims and nodes
COMPUTE_CLASS_LABEL = "cloud.google.com/compute-class"


def created_at(item: dict[str, Any]) -> float:
    """Return when an object was created, in seconds since 1970."""
    return datetime.fromisoformat(item["metadata"]["creationTimestamp"]).timestamp()
