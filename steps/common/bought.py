"""What a run has bought: the object that asks for its nodes, named and labelled after it, with its price written on it.

Such an object belongs to no namespace. Its owner is the namespace of the run all the same: when that is deleted,
Kubernetes deletes the object, and whoever brought the nodes takes them back.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from steps.common import kubernetes, settings
from steps.common.kinds import CLASSES, POOLS, Kind
from steps.common.resolved import Rung

RUN_LABEL, NAMESPACE_LABEL = "fineline.dev/run", "fineline.dev/namespace"
SINCE, TYPE, GPUS, PRICE, UNTIL = (
    "fineline.dev/bought-at",
    "fineline.dev/instance-type",
    "fineline.dev/gpus",
    "fineline.dev/dollars-an-hour",
    "fineline.dev/until",
)
LONGEST_RUN_NAME = 40
KINDS = {"karpenter": POOLS, "compute-class": CLASSES}  # by who brings the nodes


@dataclass(frozen=True)
class Bought:
    """A run's node, and what it has cost up to now."""

    instance_type: str
    gpus: int
    price: float | None  # US dollars an hour
    hours: float

    @property
    def cost(self) -> float | None:
        """US dollars."""
        return None if self.price is None else self.price * self.hours


def name_of(run: str, namespace: str) -> str:
    """Return the name of a run's object: unlike that of a run of the same name in another namespace."""
    told = hashlib.sha256(f"{namespace}/{run}".encode()).hexdigest()[:6]
    return f"fineline-{run[:LONGEST_RUN_NAME].rstrip('-.')}-{told}"


def metadata(run: str, namespace: str) -> dict[str, Any]:
    """Return the metadata of a run's object."""
    with kubernetes.in_one_line():
        owner = kubernetes.core().read_namespace(namespace)
    return {
        "name": name_of(run, namespace),
        "labels": {"app.kubernetes.io/part-of": "fineline", RUN_LABEL: run, NAMESPACE_LABEL: namespace},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": owner.metadata.uid}],
    }


def note(rung: Rung, since: float, until: float) -> dict[str, str]:
    """Return the annotations that tell what was bought.

    Args:
        rung: what it is.
        since: when it was there, in seconds since 1970.
        until: when a limit of the recipe is reached; 0: never.
    """
    price = "" if rung.price is None else f"{rung.price:g}"
    kind = {TYPE: rung.instance_type, GPUS: str(rung.node_gpus), PRICE: price}
    return {SINCE: f"{since:.0f}", UNTIL: f"{until:.0f}", **kind}


def read(item: dict[str, Any], now: float) -> Bought | None:
    """Return what an object has cost until `now`, or None where no node has come of it."""
    told = item["metadata"].get("annotations") or {}
    if SINCE not in told:
        return None
    price = float(told[PRICE]) if told.get(PRICE) else None
    hours = max(0.0, now - float(told[SINCE])) / 3600
    return Bought(told.get(TYPE, ""), int(told.get(GPUS, "0")), price, hours)


def kind() -> Kind | None:
    """Return the kind of what this namespace's runs ask for nodes with; None where they buy none."""
    found = KINDS.get(settings.compute_provider())
    return found if found and found.served else None
