"""Objects of the cluster, in no namespace, that runs create, read and delete: NodePools, NodeClaims, ComputeClasses."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from steps.common.kubernetes import api

MANAGER, APPLY = "fineline", "application/apply-patch+yaml"


@dataclass(frozen=True)
class ClusterKind:
    """A kind, by its API group and its plural name."""

    group: str
    plural: str

    @property
    def version(self) -> str:
        """The version that the cluster prefers."""
        return api.api_groups().get(self.group, "v1")

    @property
    def served(self) -> bool:
        """Tell whether the cluster knows the kind: others of its group may be there without it."""
        return self.group in api.api_groups() and self.plural in api.resources(self.group, self.version)

    def get(self, name: str) -> dict[str, Any] | None:
        """Return an object, or None."""
        place = (self.group, self.version, self.plural, name)
        return api.if_there(lambda: dict(api.custom().get_cluster_custom_object(*place)))

    def list(self, selector: str = "") -> list[dict[str, Any]]:
        """Return the objects that bear the labels."""
        with api.in_one_line():
            found = api.custom().list_cluster_custom_object(
                self.group, self.version, self.plural, label_selector=selector
            )
        return list(found["items"])

    def apply(self, body: dict[str, Any]) -> None:
        """Create the object or make it as given, by server-side apply.

        Raises:
            UserError: the account may not, or it is refused.
        """
        with api.in_one_line():
            api.custom().patch_cluster_custom_object(
                self.group,
                self.version,
                self.plural,
                body["metadata"]["name"],
                body,
                field_manager=MANAGER,
                force=True,
                _content_type=APPLY,
            )

    def annotate(self, name: str, annotations: dict[str, str]) -> None:
        """Add annotations to an object, where it is still there."""
        body = {"metadata": {"annotations": annotations}}
        place = (self.group, self.version, self.plural, name)
        api.if_there(lambda: api.custom().patch_cluster_custom_object(*place, body))

    def delete(self, name: str) -> bool:
        """Delete an object; tell whether it was there."""
        place = (self.group, self.version, self.plural, name)
        return api.if_there(lambda: api.custom().delete_cluster_custom_object(*place)) is not None


POOLS = ClusterKind("karpenter.sh", "nodepools")
CLAIMS = ClusterKind("karpenter.sh", "nodeclaims")
CLASSES = ClusterKind("cloud.google.com", "computeclasses")
POOL_LABEL = "karpenter.sh/nodepool"  # of NodeClaims and nodes
CLASS_LABEL = "cloud.google.com/compute-class"


def condition(item: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of an object; empty where it is not there."""
    found: list[dict[str, Any]] = item.get("status", {}).get("conditions", [])
    return next((one for one in found if one["type"] == kind), {})


def created(item: dict[str, Any]) -> float:
    """Return when an object was created, in seconds since 1970."""
    return datetime.fromisoformat(item["metadata"]["creationTimestamp"]).timestamp()
