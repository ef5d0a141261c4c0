"""What a run has bought: the object that asks for its nodes, named and labelled after it, with its account written on it.

Such an object belongs to no namespace. Its owner is the namespace of the run all the same: when that is deleted,
Kubernetes deletes the object, and whoever brought the nodes takes them back.
"""

import hashlib
from typing import Any

from steps.common.kubernetes import client
from steps.common.kubernetes.cluster_objects import (
    COMPUTE_CLASS_LABEL,
    COMPUTE_CLASSES,
    NODE_CLAIMS,
    NODE_POOL_LABEL,
    NODE_POOLS,
    created_at,
)
from steps.common.kubernetes.errors import ForbiddenError, api_errors
from steps.common.kubernetes.resource import Resource, condition
from steps.common.nodes import gpu_nodes
from steps.common.nodes.ledger import Purchase, There
from steps.common.runtime import settings

RUN_LABEL, NAMESPACE_LABEL = "fineline.dev/run", "fineline.dev/namespace"
ACCOUNT = "fineline.dev/bought"  # the annotation, as JSON
CAPACITY_LABEL, SPOT_LABEL = "karpenter.sh/capacity-type", "cloud.google.com/gke-spot"
LONGEST_RUN_NAME = 40
KINDS = {"karpenter": NODE_POOLS, "compute-class": COMPUTE_CLASSES}  # by who brings the nodes


def name_of(run: str, namespace: str) -> str:
    """Return the name of a run's object: unlike that of a run of the same name in another namespace."""
    told = hashlib.sha256(f"{namespace}/{run}".encode()).hexdigest()[:6]
    return f"fineline-{run[:LONGEST_RUN_NAME].rstrip('-.')}-{told}"


def metadata(run: str, namespace: str) -> dict[str, Any]:
    """Return the metadata of a run's object."""
    with api_errors():
        owner = client.core().read_namespace(namespace)
    return {
        "name": name_of(run, namespace),
        "labels": {"app.kubernetes.io/part-of": "fineline", RUN_LABEL: run, NAMESPACE_LABEL: namespace},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": owner.metadata.uid}],
    }


def ask(kind: Resource, body: dict[str, Any], wanted: Purchase) -> None:
    """Create or change a run's object; what may be bought is written on it once."""
    kind.apply(body)
    name = body["metadata"]["name"]
    item = kind.read(name)
    if item and _read(item) is None:
        kind.annotate(name, {ACCOUNT: wanted.model_dump_json()})


def noted(kind: Resource, name: str, now: float) -> Purchase | None:
    """Write on a run's object which machines are there, and return what it has bought; None where there is no such object."""
    item = kind.read(name)
    purchase = _read(item) if item else None
    if purchase is None:
        return None
    found = purchase.seen(machines(kind, name), now)
    if found != purchase:
        kind.annotate(name, {ACCOUNT: found.model_dump_json()})
    return found


def machines(kind: Resource, name: str) -> list[There]:
    """Return the machines that were brought for a run's object, also those that have not joined the cluster."""
    if kind == NODE_POOLS:
        claims = NODE_CLAIMS.list(f"{NODE_POOL_LABEL}={name}")
        launched = [one for one in claims if condition(one, "Launched").get("status") == "True"]
        return [_there(one, one["metadata"]["labels"].get(CAPACITY_LABEL, "")) for one in launched]
    with api_errors():
        nodes = client.core().list_node(label_selector=f"{COMPUTE_CLASS_LABEL}={name}").items
    found = [client.as_dict(node) for node in nodes]
    return [_there(one, "spot" if SPOT_LABEL in one["metadata"]["labels"] else "on-demand") for one in found]


def _there(item: dict[str, Any], capacity: str) -> There:
    kind = item["metadata"]["labels"].get(gpu_nodes.TYPE_LABEL, "")
    return There(item["metadata"]["name"], kind, capacity, created_at(item))


def _read(item: dict[str, Any]) -> Purchase | None:
    told = (item["metadata"].get("annotations") or {}).get(ACCOUNT)
    return Purchase.model_validate_json(told) if told else None


def kinds() -> list[Resource]:
    """Return the kinds of what this namespace's runs ask for nodes with.

    That which the setting names, and, since it may have been changed while something was bought, every other that the
    cluster serves and the account may read.
    """
    found = []
    for provider, kind in KINDS.items():
        if not kind.exists:
            continue
        if provider != settings.compute_provider():
            try:
                kind.list(f"{NAMESPACE_LABEL}=none")
            except ForbiddenError:
                continue
        found.append(kind)
    return found
