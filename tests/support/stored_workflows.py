"""Workflows in memory, for what a cluster is asked thousands of times or answers only when it is broken."""

from typing import Any

from steps.common.kubernetes.api_errors import ConflictError


class StoredWorkflows:
    """The part of `WORKFLOWS` that the API uses. Nothing runs them."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        for item in items:
            self.create(item)

    def create(self, body: dict[str, Any], namespace: str = "") -> dict[str, Any]:
        name = body["metadata"]["name"]
        if name in self.items:
            raise ConflictError(f"{name} exists")
        self.items[name] = {**body, "metadata": {"resourceVersion": "1", **body["metadata"]}}
        return self.items[name]

    def read(self, name: str, namespace: str = "") -> dict[str, Any] | None:
        return self.items.get(name)

    def list_metadata(self, selector: str, namespace: str) -> list[dict[str, Any]]:
        wanted = [one.partition("=") for one in selector.split(",")]
        return [
            {"metadata": item["metadata"]} for item in self.items.values() if _has(item["metadata"]["labels"], wanted)
        ]

    def patch(self, name: str, body: dict[str, Any], namespace: str = "") -> dict[str, Any]:
        item = self.items[name]
        notes = item["metadata"].get("annotations", {}) | body["metadata"]["annotations"]
        version = str(int(item["metadata"]["resourceVersion"]) + 1)
        metadata = {**item["metadata"], "annotations": notes, "resourceVersion": version}
        self.items[name] = {**item, "metadata": metadata, "spec": item["spec"] | body.get("spec", {})}
        return self.items[name]


def _has(labels: dict[str, str], wanted: list[tuple[str, str, str]]) -> bool:
    return all(labels.get(key) == value if equals else key in labels for key, equals, value in wanted)
