"""Which cloud Karpenter buys nodes of: by the kinds of NodeClass that the cluster knows."""

import os
from dataclasses import dataclass
from typing import Any

from presets.gpu_preset import CLOUDS, Cloud
from steps.common.kubernetes import client
from steps.common.kubernetes.cluster_objects import NODE_POOLS
from steps.common.kubernetes.resource import Resource
from steps.common.runtime.errors import UserError
from steps.common.runtime.settings import CLOUD_SETTING, NODE_CLASS_SETTING


@dataclass(frozen=True)
class Provider:
    """A provider of Karpenter's."""

    cloud: Cloud
    group: str
    kind: str
    plural: str


# Karpenter's providers of the clouds, and EKS Auto Mode, which brings its own.
PROVIDERS = (
    Provider("aws", "karpenter.k8s.aws", "EC2NodeClass", "ec2nodeclasses"),
    Provider("aws", "eks.amazonaws.com", "NodeClass", "nodeclasses"),
    Provider("azure", "karpenter.azure.com", "AKSNodeClass", "aksnodeclasses"),
    Provider("gcp", "karpenter.k8s.gcp", "GCENodeClass", "gcenodeclasses"),
)


def provider() -> Provider:
    """Return the provider that is there, or the one that the namespace's settings name.

    Raises:
        UserError: there is no Karpenter, or no NodeClass of a kind that is known.
    """
    if not NODE_POOLS.exists:
        raise UserError("the cluster has no Karpenter (no API group karpenter.sh); install it, or set FINELINE_COMPUTE")
    if set_by_hand := os.environ.get(NODE_CLASS_SETTING, ""):
        return by_hand(set_by_hand, os.environ.get(CLOUD_SETTING, ""))
    there = [one for one in PROVIDERS if one.group in client.api_groups()]
    if not there:
        raise UserError(
            f"Karpenter is there and no NodeClass of a cloud that is known; name its kind by {NODE_CLASS_SETTING} "
            f"(GROUP/KIND) and the cloud by {CLOUD_SETTING}"
        )
    return there[0]


def by_hand(text: str, cloud: str) -> Provider:
    """Return the provider that the namespace's settings name.

    Raises:
        UserError: they do not name it whole.
    """
    group, _, kind = text.partition("/")
    if not group or not kind or cloud not in CLOUDS:
        raise UserError(
            f"the setting {NODE_CLASS_SETTING} is {text!r} and {CLOUD_SETTING} {cloud!r}; "
            f"write the one as GROUP/KIND, the other as {', '.join(CLOUDS)}"
        )
    named: Any = cloud
    return Provider(named, group, kind, f"{kind.lower()}es" if kind.lower().endswith("s") else f"{kind.lower()}s")


def reference(wanted: str = "") -> dict[str, str]:
    """Return a NodePool's reference to the NodeClass: the one that is named, the only one, or the one named default.

    Raises:
        UserError: there is none, or there are several and none of them is meant.
    """
    one = provider()
    names = sorted(item["metadata"]["name"] for item in Resource(one.group, one.plural).list())
    chosen = wanted or (names[0] if len(names) == 1 else "default")
    if chosen not in names:
        there = f"there are {', '.join(names)}" if names else f"there is no {one.kind}"
        hint = (
            "name one by compute.node_class" if names else "create one, as Karpenter's documentation of your cloud says"
        )
        raise UserError(f"compute.node_class: {chosen!r} is no {one.kind}: {there}; {hint}")
    return {"group": one.group, "kind": one.kind, "name": chosen}
