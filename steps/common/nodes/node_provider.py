"""Who provides GPU nodes for runs: the values of the setting FINELINE_COMPUTE, and what each of them means."""

from dataclasses import dataclass
from enum import StrEnum

from steps.common.kubernetes.cluster_objects import COMPUTE_CLASSES, NODE_POOLS
from steps.common.kubernetes.resource import Resource
from steps.common.runtime.errors import UserError
from steps.common.runtime.settings import COMPUTE_SETTING, compute_provider


class NodeProvider(StrEnum):
    """Who provides GPU nodes."""

    KARPENTER = "karpenter"
    COMPUTE_CLASS = "compute-class"  # GKE's autoscaler
    EXISTING_NODES = "nodes"


@dataclass(frozen=True)
class ProviderTraits:
    """What distinguishes a provider."""

    component: str  # below argo/components
    cluster_role: str  # what a service account needs beyond the namespace
    requested_with: Resource | None  # the kind of object that requests a run's node; None: nothing is bought

    def cluster_role_of(self, namespace: str) -> str:
        """Return the name of the ClusterRole, and of its binding, that a namespace's installation has."""
        return f"{self.cluster_role}.{namespace}"

    @property
    def buys(self) -> bool:
        """Whether nodes are bought for a run, and given back after it."""
        return self.requested_with is not None


PROVIDERS = {
    NodeProvider.KARPENTER: ProviderTraits("karpenter", "fineline-provision", NODE_POOLS),
    NodeProvider.COMPUTE_CLASS: ProviderTraits("compute-class", "fineline-compute-class", COMPUTE_CLASSES),
    NodeProvider.EXISTING_NODES: ProviderTraits("gpu-nodes", "fineline-nodes", None),
}


def node_provider(setting: str | None = None) -> NodeProvider | None:
    """Return the namespace's provider; None if it has none: steps run wherever their pods are placed.

    Args:
        setting: the value of FINELINE_COMPUTE; None: this process's own.

    Raises:
        UserError: the setting is not a known provider.
    """
    value = compute_provider() if setting is None else setting
    if not value:
        return None
    if value not in set(NodeProvider):
        known = ", ".join(NodeProvider)
        raise UserError(f"the setting {COMPUTE_SETTING} is {value!r}; choose one of {known}")
    return NodeProvider(value)


def buys(provider: str) -> bool:
    """Return whether a provider, as a quote names it, buys nodes."""
    return bool(provider) and PROVIDERS[NodeProvider(provider)].buys
