"""The objects of one owner in a namespace. Every write to them goes through here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steps.common.kubernetes.owner import refuse_foreign
from steps.common.kubernetes.resource import Check, Resource, kind_of


@dataclass(frozen=True)
class OwnedObjects:
    """Reads and changes what belongs to an owner, and refuses whatever else has the name of an object."""

    namespace: str
    owner: Mapping[str, str]  # labels
    check: Check | None = None  # called before each write with the object as it was read; see `Resource.apply`
    annotations: Mapping[str, str] = field(default_factory=dict)  # that each write leaves on the object

    def read(self, kind: Resource, name: str) -> dict[str, Any] | None:
        """Return an object, or None.

        Raises:
            ForeignObjectError: it belongs to somebody else.
        """
        found = kind.read(name, self.namespace)
        if found is not None:
            refuse_foreign(found, self.owner)
        return found

    def list(self, kind: Resource) -> list[dict[str, Any]]:
        """Return the owner's objects of a kind."""
        return kind.list(",".join(f"{key}={value}" for key, value in self.owner.items()), self.namespace)

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create or change an object by server-side apply, and return it.

        Raises:
            ForeignObjectError: one of its name belongs to somebody else.
        """
        return kind_of(body).apply(self._annotated(body), self.namespace, owner=self.owner, check=self.check)

    def patch(self, kind: Resource, name: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Merge fields into an object, if it exists, and return it; a field of None is removed.

        Raises:
            ForeignObjectError: it belongs to somebody else.
        """
        return kind.patch(name, self._annotated(body), self.namespace, owner=self.owner, check=self.check)

    def delete(self, kind: Resource, name: str) -> bool:
        """Delete an object; return whether it existed.

        Raises:
            ForeignObjectError: it belongs to somebody else.
        """
        return kind.delete(name, self.namespace, owner=self.owner, check=self.check)

    def _annotated(self, body: dict[str, Any]) -> dict[str, Any]:
        metadata = body.get("metadata", {})
        return {
            **body,
            "metadata": {**metadata, "annotations": {**metadata.get("annotations", {}), **self.annotations}},
        }
