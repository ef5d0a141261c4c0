"""The object that requests a run's nodes: named and labelled after the run, with the run's purchase as an annotation.

It belongs to the whole cluster, but the run's namespace owns it: when the namespace is deleted, Kubernetes deletes the object,
and the provider takes the nodes back.
"""

import hashlib
from typing import Any

from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import ForbiddenError, api_errors
from steps.common.kubernetes.cluster_objects import (
    COMPUTE_CLASS_LABEL,
    NODE_CLAIMS,
    NODE_POOL_LABEL,
    NODE_POOLS,
    created_at,
)
from steps.common.kubernetes.owner import PART_OF
from steps.common.kubernetes.resource import Resource, condition
from steps.common.nodes import gpu_nodes
from steps.common.nodes.ledger import Purchase, RunningNode
from steps.common.nodes.node_provider import PROVIDERS
from steps.common.runtime import settings

RUN_LABEL, NAMESPACE_LABEL = "fineline.dev/run", "fineline.dev/namespace"
PURCHASE_ANNOTATION = "fineline.dev/bought"  # as JSON
CAPACITY_LABEL, SPOT_LABEL = "karpenter.sh/capacity-type", "cloud.google.com/gke-spot"
LONGEST_RUN_NAME = 40


def name_of(run: str, namespace: str) -> str:
    """Return the name of a run's request; runs of the same name in two namespaces get different ones."""
    digest = hashlib.sha256(f"{namespace}/{run}".encode()).hexdigest()[:6]
    return f"fineline-{run[:LONGEST_RUN_NAME].rstrip('-.')}-{digest}"


def owner_of(run: str, namespace: str) -> dict[str, str]:
    """Return the labels of the objects that request a run's nodes."""
    return {**PART_OF, RUN_LABEL: run, NAMESPACE_LABEL: namespace}


def metadata(run: str, namespace: str) -> dict[str, Any]:
    """Return the metadata of a run's request."""
    with api_errors():
        owner = client.core().read_namespace(namespace)
    return {
        "name": name_of(run, namespace),
        "labels": owner_of(run, namespace),
        "ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": owner.metadata.uid}],
    }


def request(kind: Resource, body: dict[str, Any], purchase: Purchase) -> None:
    """Create or change a run's request. The purchase is written on it once, when it is created."""
    labels = body["metadata"]["labels"]
    kind.apply(body, owner=owner_of(labels[RUN_LABEL], labels[NAMESPACE_LABEL]))
    name = body["metadata"]["name"]
    item = kind.read(name)
    if item and _read_purchase(item) is None:
        kind.annotate(name, {PURCHASE_ANNOTATION: purchase.model_dump_json()})


def record_nodes(kind: Resource, name: str, now: float) -> Purchase | None:
    """Write the nodes that exist on a run's request, and return its purchase; None if there is no such request."""
    item = kind.read(name)
    purchase = _read_purchase(item) if item else None
    if purchase is None:
        return None
    found = purchase.updated(nodes_of(kind, name), now)
    if found != purchase:
        kind.annotate(name, {PURCHASE_ANNOTATION: found.model_dump_json()})
    return found


def nodes_of(kind: Resource, name: str) -> list[RunningNode]:
    """Return the nodes of a run's request, including those that have not joined the cluster yet."""
    if kind == NODE_POOLS:
        claims = NODE_CLAIMS.list(f"{NODE_POOL_LABEL}={name}")
        launched = [one for one in claims if condition(one, "Launched").get("status") == "True"]
        return [_running_node(one, one["metadata"]["labels"].get(CAPACITY_LABEL, "")) for one in launched]
    with api_errors():
        nodes = client.core().list_node(label_selector=f"{COMPUTE_CLASS_LABEL}={name}").items
    found = [client.as_dict(node) for node in nodes]
    return [_running_node(one, "spot" if SPOT_LABEL in one["metadata"]["labels"] else "on-demand") for one in found]


def _running_node(item: dict[str, Any], capacity: str) -> RunningNode:
    kind = item["metadata"]["labels"].get(gpu_nodes.TYPE_LABEL, "")
    return RunningNode(item["metadata"]["name"], kind, capacity, created_at(item))


def _read_purchase(item: dict[str, Any]) -> Purchase | None:
    text = (item["metadata"].get("annotations") or {}).get(PURCHASE_ANNOTATION)
    return Purchase.read(text, f"{item['metadata']['name']}: {PURCHASE_ANNOTATION}") if text else None


def request_kinds() -> list[Resource]:
    """Return the kinds of objects with which this namespace's runs may have requested nodes.

    Besides the kind of the current provider these are all that the cluster has and the account may read: the setting may have
    been changed while a node was in use.
    """
    found = []
    for provider, traits in PROVIDERS.items():
        kind = traits.requested_with
        if kind is None or not kind.exists:
            continue
        if provider != settings.compute_provider():
            try:
                kind.list(f"{NAMESPACE_LABEL}=none")
            except ForbiddenError:
                continue
        found.append(kind)
    return found
