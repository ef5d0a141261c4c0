"""What a run has bought, machine by machine, and what that has come to in hours and dollars.

A machine that spot has taken is followed by another, of another type and price perhaps: each is reckoned for as long as it
was there.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from recipes.compute import Compute
from steps.common.handover.resolved import Rung
from steps.common.runtime.progress import duration


@dataclass(frozen=True)
class There:
    """A machine that is there, and paid for."""

    name: str
    instance_type: str
    capacity: str
    since: float  # seconds since 1970


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True)


class Offer(_Kept):
    """What may be bought."""

    instance_type: str
    capacity: str
    gpus: int = 0  # of the whole machine
    price: float | None = None  # US dollars an hour
    price_at_most: float | None = None  # likewise: what holds where the price on spot is not known


class BoughtNode(Offer):
    """What was bought."""

    name: str
    since: float  # seconds since 1970
    until: float | None = None  # likewise; None: it is still there

    @property
    def key(self) -> tuple[str, float]:
        """What tells it from every other."""
        return self.name, self.since

    def hours(self, now: float) -> float:
        """Hours up to now for which it was there."""
        return max(0.0, (now if self.until is None else self.until) - self.since) / 3600


class Paid(_Kept):
    """What a run's machines have come to."""

    instance_types: list[str]
    hours: float
    gpu_hours: float
    cost: float | None  # US dollars; None: a price is not known

    def in_words(self) -> str:
        """Return it as one line."""
        cost = f"${self.cost:.2f}" if self.cost is not None else "at a price that is not known"
        return f"{', '.join(self.instance_types)} after {duration(self.hours * 3600)}, {cost}"


class Purchase(_Kept):
    """What a run may buy, up to which limits, and what it has bought."""

    offers: list[Offer]
    max_cost: float = 0  # US dollars; 0: no limit
    max_hours: float = 0
    machines: list[BoughtNode] = []

    def seen(self, there: Iterable[There], now: float) -> "Purchase":
        """Return it as it is now that these machines are there, and no others are."""
        # By its birth too: Google gives a machine that comes in place of another the name of that.
        found = {(one.name, one.since): one for one in there}
        machines = [
            one.model_copy(update={"until": now}) if one.until is None and one.key not in found else one
            for one in self.machines
        ]
        known = {one.key for one in machines}
        machines += [self._machine(one) for key, one in found.items() if key not in known]
        return self.model_copy(update={"machines": machines})

    def _machine(self, one: There) -> BoughtNode:
        kind = (one.instance_type, one.capacity)
        same = (offer for offer in self.offers if (offer.instance_type, offer.capacity) == kind)
        offer = next(same, Offer(instance_type=one.instance_type, capacity=one.capacity))
        return BoughtNode(**offer.model_dump(), name=one.name, since=one.since)

    def paid(self, now: float) -> Paid | None:
        """Return what it has come to; None where no machine ever was there."""
        if not self.machines:
            return None
        costs = [None if one.price is None else one.price * one.hours(now) for one in self.machines]
        known = [cost for cost in costs if cost is not None]
        return Paid(
            instance_types=[one.instance_type for one in self.machines],
            hours=sum(one.hours(now) for one in self.machines),
            gpu_hours=sum(one.hours(now) * one.gpus for one in self.machines),
            cost=sum(known) if len(known) == len(costs) else None,
        )

    def with_earlier(self, earlier: "Purchase | None") -> "Purchase":
        """Return it with the machines of an earlier try at the same run before its own."""
        own = {one.key for one in self.machines}
        before = [one for one in earlier.machines if one.key not in own] if earlier else []
        return self.model_copy(update={"machines": [*before, *self.machines]})

    def hours_end(self, now: float) -> float:
        """Return when max_hours is reached, in seconds since 1970, if the machine of now stays; 0: never."""
        if not self.max_hours or all(one.until is not None for one in self.machines):
            return 0.0
        return now + (self.max_hours - sum(one.hours(now) for one in self.machines)) * 3600

    def cost_end(self, now: float) -> float:
        """Return likewise when max_cost is reached."""
        rate = sum(one.price_at_most or 0.0 for one in self.machines if one.until is None)
        if not self.max_cost or not rate:
            return 0.0
        spent = sum((one.price_at_most or 0.0) * one.hours(now) for one in self.machines)
        return now + (self.max_cost - spent) / rate * 3600

    def until(self, now: float) -> float:
        """Return when the first of the limits is reached."""
        return min((end for end in (self.hours_end(now), self.cost_end(now)) if end), default=0.0)


def wanted(compute: Compute, ladder: list[Rung]) -> Purchase:
    """Return what a run may buy, before it has."""
    offers = [
        Offer(
            instance_type=rung.instance_type,
            capacity=rung.capacity,
            gpus=rung.node_gpus,
            price=rung.price,
            price_at_most=rung.price if rung.price_at_most is None else rung.price_at_most,
        )
        for rung in ladder
    ]
    return Purchase(offers=offers, max_cost=compute.max_cost, max_hours=compute.max_hours)
