"""Which cloud Karpenter buys nodes from: the kind of NodeClass in the cluster decides."""

import os
from dataclasses import dataclass
from typing import Any

from presets.gpu_preset import CLOUDS, Cloud
from steps.common.kubernetes import client
from steps.common.kubernetes.cluster_objects import NODE_POOLS
from steps.common.kubernetes.resource import Resource, plural_of
from steps.common.runtime.errors import UserError
from steps.common.runtime.settings import CLOUD_SETTING, NODE_CLASS_SETTING


@dataclass(frozen=True)
class NodeClassKind:
    """A kind of NodeClass, and the cloud whose nodes it configures."""

    cloud: Cloud
    group: str
    kind: str

    @property
    def plural(self) -> str:
        """The plural name of the kind."""
        return plural_of(self.kind)


# Karpenter's providers for the clouds, and EKS Auto Mode, which brings its own.
KNOWN_KINDS = (
    NodeClassKind("aws", "karpenter.k8s.aws", "EC2NodeClass"),
    NodeClassKind("aws", "eks.amazonaws.com", "NodeClass"),
    NodeClassKind("azure", "karpenter.azure.com", "AKSNodeClass"),
    NodeClassKind("gcp", "karpenter.k8s.gcp", "GCENodeClass"),
)


def node_class_kind() -> NodeClassKind:
    """Return the kind that the namespace's settings name, or else the one that the cluster has.

    Raises:
        UserError: the cluster has no Karpenter, or no known kind of NodeClass.
    """
    if not NODE_POOLS.exists:
        raise UserError("the cluster has no Karpenter (no API group karpenter.sh); install it, or set FINELINE_COMPUTE")
    if setting := os.environ.get(NODE_CLASS_SETTING, ""):
        return kind_from_settings(setting, os.environ.get(CLOUD_SETTING, ""))
    found = [one for one in KNOWN_KINDS if one.group in client.api_groups()]
    if not found:
        raise UserError(
            f"Karpenter is installed, but with no NodeClass of a known cloud; set {NODE_CLASS_SETTING} to its kind "
            f"(GROUP/KIND) and {CLOUD_SETTING} to the cloud"
        )
    return found[0]


def kind_from_settings(node_class: str, cloud: str) -> NodeClassKind:
    """Return the kind that the namespace's settings name.

    Raises:
        UserError: a setting is missing or malformed.
    """
    group, _, kind = node_class.partition("/")
    if not group or not kind or cloud not in CLOUDS:
        raise UserError(
            f"the setting {NODE_CLASS_SETTING} is {node_class!r} and {CLOUD_SETTING} is {cloud!r}; "
            f"set the first to GROUP/KIND and the second to {', '.join(CLOUDS[:-1])} or {CLOUDS[-1]}"
        )
    named: Any = cloud
    return NodeClassKind(named, group, kind)


def reference(wanted: str = "") -> dict[str, str]:
    """Return a NodePool's reference to a NodeClass: the wanted one, the only one, or the one named default.

    Raises:
        UserError: there is none, or there are several and none is named default.
    """
    one = node_class_kind()
    names = sorted(item["metadata"]["name"] for item in Resource(one.group, one.plural).list())
    chosen = wanted or (names[0] if len(names) == 1 else "default")
    if chosen not in names:
        existing = f"the cluster has {', '.join(names)}" if names else "the cluster has none"
        hint = "set compute.node_class to one of them" if names else "create one as Karpenter's documentation says"
        raise UserError(f"compute.node_class: no {one.kind} named {chosen!r}: {existing}; {hint}")
    return {"group": one.group, "kind": one.kind, "name": chosen}
