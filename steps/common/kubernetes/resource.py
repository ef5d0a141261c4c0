"""Objects of any kind, as dictionaries: read, list, create, apply, patch, delete.

Whoever applies or deletes says whose the object is: an object of that name that belongs to somebody else stays as it is.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import ConflictError, NotFoundError, api_errors, none_if_absent
from steps.common.kubernetes.owner import refuse_foreign

T = TypeVar("T")
Check = Callable[[dict[str, Any] | None], None]
FIELD_MANAGER = "fineline"
# https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-metadata
METADATA_ALONE = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
APPLY_PATCH, MERGE_PATCH = "application/apply-patch+yaml", "application/merge-patch+json"
# An object that is written to has been read before; a busy one, such as a Deployment that starts, may change in between.
TRIES, PAUSE_SECONDS = 20, 0.2


@dataclass(frozen=True)
class Resource:
    """A kind, by its API group, empty for the core, and its plural name.

    An empty namespace means an object of the whole cluster.
    """

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
        return none_if_absent(lambda: self._request("get", namespace, name=name))

    def list_metadata(self, selector: str, namespace: str) -> list[dict[str, Any]]:
        """Return the objects of an API group that have the labels, each with nothing but its metadata."""
        headers = {"Accept": METADATA_ALONE}
        with api_errors():
            # Of no objects, the list is null.
            return list(self._request("list", namespace, label_selector=selector, _headers=headers)["items"] or [])

    def list(self, selector: str = "", namespace: str = "") -> list[dict[str, Any]]:
        """Return the objects that have the labels."""
        with api_errors():
            return list(self._request("list", namespace, label_selector=selector)["items"])

    def create(self, body: dict[str, Any], namespace: str = "") -> dict[str, Any]:
        """Create an object.

        Raises:
            UserError: it is refused.
        """
        with api_errors():
            return self._request("create", namespace, body=body)

    def apply(
        self, body: dict[str, Any], namespace: str = "", *, owner: Mapping[str, str], check: Check | None = None
    ) -> dict[str, Any]:
        """Create or change an object by server-side apply; fields that others own, such as a number of replicas, stay.

        Args:
            body: the object, with the owner's labels.
            namespace: of the object.
            owner: labels that an existing object of that name must have.
            check: called with the object as it was read, None if there is none, before each write.

        Raises:
            ForeignObjectError: it exists without those labels; it is left as it is.
            UserError: it is refused.
        """
        name = body["metadata"]["name"]

        def write(found: dict[str, Any] | None) -> dict[str, Any]:
            sent = {**body, "metadata": {**body["metadata"], **_seen(found)}}
            # Not forced if there was no such object: if another one has been created since then, its fields belong to its
            # creator, and the API server answers with a conflict.
            options = {"field_manager": FIELD_MANAGER, "force": found is not None, "_content_type": APPLY_PATCH}
            return self._request("patch", namespace, name=name, body=sent, **options)

        return self._write_as_seen(name, namespace, owner, check, write)

    def patch(
        self,
        name: str,
        body: dict[str, Any],
        namespace: str = "",
        *,
        owner: Mapping[str, str] | None = None,
        check: Check | None = None,
    ) -> dict[str, Any] | None:
        """Merge fields into an object, if it exists; a field of None is removed.

        Raises:
            ForeignObjectError: it lacks a label of the owner, if one is given; it is left as it is.
            UserError: it is refused.
        """
        options = {"field_manager": FIELD_MANAGER, "_content_type": MERGE_PATCH}
        if owner is None:
            return none_if_absent(lambda: self._request("patch", namespace, name=name, body=body, **options))

        def write(found: dict[str, Any] | None) -> dict[str, Any] | None:
            if found is None:
                return None
            sent = {**body, "metadata": {**body.get("metadata", {}), **_seen(found)}}
            return self._request("patch", namespace, name=name, body=sent, **options)

        return self._write_as_seen(name, namespace, owner, check, write)

    def annotate(self, name: str, annotations: dict[str, str], namespace: str = "") -> None:
        """Add annotations to an object, if it exists."""
        self.patch(name, {"metadata": {"annotations": annotations}}, namespace)

    def delete(self, name: str, namespace: str = "", *, owner: Mapping[str, str], check: Check | None = None) -> bool:
        """Delete an object; return whether it existed.

        Raises:
            ForeignObjectError: it lacks a label of the owner; it is left as it is.
            UserError: it is refused.
        """

        def write(found: dict[str, Any] | None) -> bool:
            if found is None:
                return False
            self._delete(found, namespace, **_seen(found))
            return True

        return self._write_as_seen(name, namespace, owner, check, write)

    def delete_item(self, item: dict[str, Any], namespace: str = "") -> None:
        """Delete an object that has been read or listed, and no later one of its name.

        Raises:
            UserError: it is refused.
        """
        with suppress(ConflictError):  # it is gone, and another one has its name
            none_if_absent(lambda: self._delete(item, namespace, uid=item["metadata"]["uid"]))

    def _delete(self, item: dict[str, Any], namespace: str, **seen: str) -> None:
        from kubernetes.client import V1DeleteOptions, V1Preconditions

        conditions = V1Preconditions(uid=seen["uid"], resource_version=seen.get("resourceVersion"))
        options = V1DeleteOptions(preconditions=conditions)
        self._request("delete", namespace, name=item["metadata"]["name"], body=options)

    def _write_as_seen(
        self,
        name: str,
        namespace: str,
        owner: Mapping[str, str],
        check: Check | None,
        write: Callable[[dict[str, Any] | None], T],
    ) -> T:
        """Read an object, check its owner, and write it as it was read; if it has changed in between, do so again.

        Raises:
            ForeignObjectError: it lacks a label of the owner.
            ConflictError: it changes all the time.
            UserError: the write is refused.
        """
        tries = TRIES
        while True:
            found, tries = self.read(name, namespace), tries - 1
            if found is not None:
                refuse_foreign(found, owner)
            if check is not None:
                check(found)
            try:
                with api_errors():
                    return write(found)
            except (ConflictError, NotFoundError) as error:
                # Not found: it was deleted after it had been read, or its namespace does not exist.
                if not tries or (found is None and isinstance(error, NotFoundError)):
                    raise
            time.sleep(PAUSE_SECONDS)

    def _request(self, verb: str, namespace: str, **arguments: Any) -> dict[str, Any]:
        """Send a request, and return the API server's answer.

        The client's own methods discard the body of a 201 and a 202, with which the API server answers if it created the
        object, or has only accepted its deletion.
        """
        place = {"namespace": namespace} if namespace else {}
        if self.group:
            scope = "namespaced" if namespace else "cluster"
            send = getattr(client.custom(), f"{verb}_{scope}_custom_object")
            place |= {"group": self.group, "version": self.version, "plural": self.plural}
        else:
            # The client of any kind knows no kind of the core.
            word = {"get": "read"}.get(verb, verb)
            send = getattr(client.core(), f"{word}_namespaced_{self.plural.removesuffix('s')}")
        return dict(json.loads(send(**place, **arguments, _preload_content=False).data))


DEPLOYMENTS = Resource("apps", "deployments", "v1")
SERVICES = Resource("", "services", "v1")


def apply(body: dict[str, Any], namespace: str, *, owner: Mapping[str, str]) -> dict[str, Any]:
    """Create or change an object of a namespace by server-side apply: a Service, or any kind of an API group.

    Raises:
        ForeignObjectError: it exists without the owner's labels; it is left as it is.
        UserError: it is refused.
    """
    return kind_of(body).apply(body, namespace, owner=owner)


def kind_of(body: dict[str, Any]) -> Resource:
    """Return the kind of an object."""
    group, _, version = body["apiVersion"].rpartition("/")
    return Resource(group, plural_of(body["kind"]), version)


def plural_of(kind: str) -> str:
    """Return the plural name of a kind, by Kubernetes' convention."""
    name = kind.lower()
    return f"{name}es" if name.endswith("s") else f"{name}s"


def condition(item: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a condition of an object; empty if it has none of that type."""
    found: list[dict[str, Any]] = item.get("status", {}).get("conditions", [])
    return next((one for one in found if one["type"] == kind), {})


def _seen(found: dict[str, Any] | None) -> dict[str, str]:
    """Return what ties a write to an object as it was read."""
    return {key: found["metadata"][key] for key in ("uid", "resourceVersion")} if found else {}
