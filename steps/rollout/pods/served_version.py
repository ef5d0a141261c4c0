"""A version that has a Deployment, as its objects describe it: how to select its pods, and what it serves."""

from dataclasses import dataclass, field
from typing import Any

from steps.rollout.pods.object_names import DIGEST_LABEL, VERSION_LABEL

ADAPTER, BASE = "fineline.dev/adapter-sha256", "fineline.dev/base"
# Where the version is registered; missing: in the installation's own registry.
REGISTRY = "fineline.dev/registry"


@dataclass(frozen=True)
class ServedVersion:
    """What its Services need to know about a version.

    In 0.1.0 the name, and the labels that select its pods, contained the number of the version and not its digest.
    """

    name: str  # of its Deployment and its own Service
    version: int
    selector: dict[str, str]  # labels of its pods
    content: dict[str, str] = field(default_factory=dict)  # annotations: adapter, base, registry

    @property
    def selects(self) -> str:
        """The selector of its pods, as text."""
        return ",".join(f"{key}={value}" for key, value in self.selector.items())

    @property
    def labels(self) -> dict[str, str]:
        """The labels that say which version it is."""
        digest = {key: value for key, value in self.selector.items() if key == DIGEST_LABEL}
        return {VERSION_LABEL: str(self.version), **digest}


def of_deployment(item: dict[str, Any]) -> ServedVersion:
    """Return the version of a Deployment, as the API has it."""
    metadata = item["metadata"]
    annotations = metadata.get("annotations") or {}
    return ServedVersion(
        name=metadata["name"],
        version=int(metadata["labels"][VERSION_LABEL]),
        selector=item["spec"]["selector"]["matchLabels"],
        content={key: annotations[key] for key in (ADAPTER, BASE, REGISTRY) if key in annotations},
    )
