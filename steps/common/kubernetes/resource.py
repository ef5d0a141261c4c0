"""Objects of any kind that belongs to an API group, as dictionaries: read, list, create, apply, patch, delete."""

import json
from dataclasses import dataclass
from typing import Any

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import api_errors, none_if_absent

FIELD_MANAGER = "fineline"
APPLY_PATCH, MERGE_PATCH = "application/apply-patch+yaml", "application/merge-patch+json"


@dataclass(frozen=True)
class Resource:
    """A kind, by its API group and its plural name. An empty namespace means an object of the whole cluster."""

    group: str
    plural: str
    fixed_version: str = ""  # empty: the one that the cluster prefers

    @property
    def version(self) -> str:
        """The version of the API group."""
        return self.fixed_version or client.api_groups().get(self.group, "v1")

    @property
    def exists(self) -> bool:
        """Whether the cluster has the kind: its group may exist without it."""
        return self.group in client.api_groups() and self.plural in client.resources(self.group, self.version)

    def read(self, name: str, namespace: str = "") -> dict[str, Any] | None:
        """Return an object, or None."""
        api, (place, scope) = client.custom(), self._place(namespace)
        read = getattr(api, f"get_{scope}_custom_object")
        return none_if_absent(lambda: dict(read(*place, name)))

    def list(self, selector: str = "", namespace: str = "") -> list[dict[str, Any]]:
        """Return the objects that have the labels."""
        place, scope = self._place(namespace)
        with api_errors():
            found = getattr(client.custom(), f"list_{scope}_custom_object")(*place, label_selector=selector)
        return list(found["items"])

    def create(self, body: dict[str, Any], namespace: str = "") -> dict[str, Any]:
        """Create an object.

        Raises:
            UserError: it is refused.
        """
        place, scope = self._place(namespace)
        with api_errors():
            return dict(getattr(client.custom(), f"create_{scope}_custom_object")(*place, body))

    def apply(self, body: dict[str, Any], namespace: str = "") -> dict[str, Any]:
        """Create or change an object by server-side apply; fields that others own, such as a number of replicas, stay.

        Raises:
            UserError: it is refused.
        """
        place, scope = self._place(namespace)
        name, patch = body["metadata"]["name"], getattr(client.custom(), f"patch_{scope}_custom_object")
        with api_errors():
            # The client discards the body of a 201, with which the API server answers if it created the object. An account
            # that may create an object may not be able to read it.
            answer = patch(*place, name, body, **_apply_options(), _preload_content=False)
            return dict(json.loads(answer.data))

    def patch(self, name: str, body: dict[str, Any], namespace: str = "") -> dict[str, Any] | None:
        """Merge fields into an object, if it exists; a field of None is removed."""
        place, scope = self._place(namespace)
        patch = getattr(client.custom(), f"patch_{scope}_custom_object")
        options = {"field_manager": FIELD_MANAGER, "_content_type": MERGE_PATCH}
        return none_if_absent(lambda: dict(patch(*place, name, body, **options)))

    def annotate(self, name: str, annotations: dict[str, str], namespace: str = "") -> None:
        """Add annotations to an object, if it exists."""
        self.patch(name, {"metadata": {"annotations": annotations}}, namespace)

    def delete(self, name: str, namespace: str = "") -> bool:
        """Delete an object; return whether it existed."""
        place, scope = self._place(namespace)
        delete = getattr(client.custom(), f"delete_{scope}_custom_object")
        # The client returns nothing if the deletion was only accepted (202).
        return none_if_absent(lambda: (delete(*place, name),)) is not None

    def _place(self, namespace: str) -> tuple[tuple[str, ...], str]:
        if namespace:
            return (self.group, self.version, namespace, self.plural), "namespaced"
        return (self.group, self.version, self.plural), "cluster"


DEPLOYMENTS = Resource("apps", "deployments", "v1")


def apply(body: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Create or change an object of a namespace by server-side apply: a Service, or any kind of an API group.

    Raises:
        UserError: it is refused.
    """
    if body["apiVersion"] == "v1":
        with api_errors():
            found = client.core().patch_namespaced_service(
                body["metadata"]["name"], namespace, body, **_apply_options()
            )
        return client.as_dict(found)
    group, _, version = body["apiVersion"].partition("/")
    return Resource(group, plural_of(body["kind"]), version).apply(body, namespace)


def plural_of(kind: str) -> str:
    """Return the plural name of a kind, by Kubernetes' convention."""
    name = kind.lower()
    return f"{name}es" if name.endswith("s") else f"{name}s"


def condition(item: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of an object; empty if it has none of that type."""
    found: list[dict[str, Any]] = item.get("status", {}).get("conditions", [])
    return next((one for one in found if one["type"] == kind), {})


def _apply_options() -> dict[str, Any]:
    return {"field_manager": FIELD_MANAGER, "force": True, "_content_type": APPLY_PATCH}
