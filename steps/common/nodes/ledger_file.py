"""Saves what a run has bought in its folder: its nodes are gone before the run ends, and a retry continues the count."""

import time

from recipes.compute import Compute
from steps.common.handover.resolved import Hardware, Rung
from steps.common.nodes.ledger import BoughtNode, NodeCost, Purchase, planned_purchase
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import write_text

FILE = "purchase.json"


def purchase_of(run: str, compute: Compute, ladder: list[Rung]) -> Purchase:
    """Return what a run may buy, with what earlier attempts at it have bought."""
    return planned_purchase(compute, ladder).with_earlier(load(run))


def save(run: str, purchase: Purchase, now: float) -> NodeCost | None:
    """Save what a run has bought, all of which ends now, and return what it has cost; None if no node ever existed."""
    ended = purchase.updated((), now).with_earlier(load(run))
    try:
        write_text(volumes.run_folder(run) / FILE, ended.model_dump_json() + "\n")
    except OSError as error:  # a full disk must not prevent that a node is given back
        say(f"the cost of the run could not be saved: {error.strerror}")
    return ended.cost(now)


def carry(run: str, machines: list[BoughtNode]) -> None:
    """Let a run that has not begun continue the count of earlier ones, against its own limits.

    Args:
        run: its name.
        machines: what the earlier runs have bought. The ledger has no offers until the run itself has saved it.
    """
    write_text(volumes.run_folder(run) / FILE, Purchase(offers=[], machines=machines).model_dump_json() + "\n")


def cost_of(run: str) -> NodeCost | None:
    """Return what a run's nodes have cost; None if none was bought."""
    found = load(run)
    return found.cost(time.time()) if found else None


def hardware(purchase: Purchase | None, rung: Rung, node: str, since: float, now: float) -> Hardware:
    """Return the hardware that a run has got, and when it has to stop there."""
    ends = (purchase.hours_end(now), purchase.cost_end(now)) if purchase else (0.0, 0.0)
    return Hardware(rung=rung, node=node, since=since, until=ends[0], until_on_node=ends[1])


def load(run: str) -> Purchase | None:
    """Return what a run has bought, as far as it is saved; None if nothing is."""
    try:
        file = volumes.run_folder(run) / FILE
        return Purchase.read(file.read_text(), file)
    except (OSError, ValueError):
        return None
