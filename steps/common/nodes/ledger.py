"""What a run has bought, node by node, and what that has cost in hours and dollars.

A spot node that the cloud takes back may be replaced by a node of another type and price. Each is counted for as long as it
existed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from recipes.compute import Compute
from steps.common.handover.resolved import Rung
from steps.common.runtime.progress import duration
from steps.common.storage.record import Record

# By these, whoever reads why a run was stopped knows that it has reached a limit.
REACHED = "compute.max_cost or compute.max_hours is reached"  # the training stopped by itself
OVER_LIMITS = "it is over its limits"  # the reaper stopped the run


@dataclass(frozen=True)
class RunningNode:
    """A node that exists and is being paid for."""

    name: str
    instance_type: str
    capacity: str
    since: float  # seconds since 1970


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class NodeOffer(_Frozen):
    """An instance type that may be bought."""

    instance_type: str
    capacity: str
    gpus: int = 0  # of the whole node
    price: float | None = None  # US dollars an hour
    price_at_most: float | None = None  # US dollars an hour; stands in for an unknown spot price


class BoughtNode(NodeOffer):
    """A node that was bought."""

    name: str
    since: float  # seconds since 1970
    until: float | None = None  # seconds since 1970; None: it still exists

    @property
    def key(self) -> tuple[str, float]:
        """Identifies the node: Google gives a replacement the name of the node that it replaces."""
        return self.name, self.since

    def hours(self, now: float) -> float:
        """Return for how many hours it has existed."""
        return max(0.0, (now if self.until is None else self.until) - self.since) / 3600


class NodeCost(_Frozen):
    """What a run's nodes have cost."""

    instance_types: list[str]
    hours: float
    gpu_hours: float
    dollars: float | None  # US dollars; None: a price is unknown

    def in_words(self) -> str:
        """Return it as one line."""
        cost = f"${self.dollars:.2f}" if self.dollars is not None else "at an unknown price"
        return f"{', '.join(self.instance_types)} after {duration(self.hours * 3600)}, {cost}"


class Purchase(_Frozen, Record):
    """What a run may buy, its limits, and what it has bought; stored as an annotation and as a file."""

    offers: list[NodeOffer]
    max_cost: float = 0  # US dollars; 0: no limit
    max_hours: float = 0
    machines: list[BoughtNode] = []

    def updated(self, running: Iterable[RunningNode], now: float) -> "Purchase":
        """Return it with the nodes that exist now; all others have ended by now."""
        found = {(one.name, one.since): one for one in running}
        machines = [
            one.model_copy(update={"until": now}) if one.until is None and one.key not in found else one
            for one in self.machines
        ]
        known = {one.key for one in machines}
        machines += [self._bought(one) for key, one in found.items() if key not in known]
        return self.model_copy(update={"machines": machines})

    def _bought(self, one: RunningNode) -> BoughtNode:
        kind = (one.instance_type, one.capacity)
        same = (offer for offer in self.offers if (offer.instance_type, offer.capacity) == kind)
        offer = next(same, NodeOffer(instance_type=one.instance_type, capacity=one.capacity))
        return BoughtNode(**offer.model_dump(), name=one.name, since=one.since)

    def cost(self, now: float) -> NodeCost | None:
        """Return what it has cost; None if no node ever existed."""
        if not self.machines:
            return None
        costs = [None if one.price is None else one.price * one.hours(now) for one in self.machines]
        known = [cost for cost in costs if cost is not None]
        return NodeCost(
            instance_types=[one.instance_type for one in self.machines],
            hours=sum(one.hours(now) for one in self.machines),
            gpu_hours=sum(one.hours(now) * one.gpus for one in self.machines),
            dollars=sum(known) if len(known) == len(costs) else None,
        )

    def with_earlier(self, earlier: "Purchase | None") -> "Purchase":
        """Return it with the nodes of an earlier attempt at the same run before its own."""
        own = {one.key for one in self.machines}
        before = [one for one in earlier.machines if one.key not in own] if earlier else []
        return self.model_copy(update={"machines": [*before, *self.machines]})

    def hours_end(self, now: float) -> float:
        """Return when max_hours is reached if the current node stays, in seconds since 1970; 0: never."""
        if not self.max_hours or all(one.until is not None for one in self.machines):
            return 0.0
        return now + (self.max_hours - sum(one.hours(now) for one in self.machines)) * 3600

    def cost_end(self, now: float) -> float:
        """Return when max_cost is reached if the current node stays, in seconds since 1970; 0: never."""
        rate = sum(one.price_at_most or 0.0 for one in self.machines if one.until is None)
        if not self.max_cost or not rate:
            return 0.0
        spent = sum((one.price_at_most or 0.0) * one.hours(now) for one in self.machines)
        return now + (self.max_cost - spent) / rate * 3600

    def until(self, now: float) -> float:
        """Return when the first limit is reached, in seconds since 1970; 0: never."""
        return min((end for end in (self.hours_end(now), self.cost_end(now)) if end), default=0.0)


def planned_purchase(compute: Compute, ladder: list[Rung]) -> Purchase:
    """Return what a run may buy, before it has bought anything."""
    offers = [
        NodeOffer(
            instance_type=rung.instance_type,
            capacity=rung.capacity,
            gpus=rung.node_gpus,
            price=rung.price,
            price_at_most=rung.price if rung.price_at_most is None else rung.price_at_most,
        )
        for rung in ladder
    ]
    return Purchase(offers=offers, max_cost=compute.max_cost, max_hours=compute.max_hours)
