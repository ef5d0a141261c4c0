"""What a run has bought, kept in its folder too: its machines are gone before it ends, and a retry goes on counting."""

import time

from recipes.compute import Compute
from steps.common.handover.resolved import Hardware, Rung
from steps.common.nodes import ledger
from steps.common.nodes.ledger import Paid, Purchase
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import write_text

FILE = "purchase.json"


def wanted(run: str, compute: Compute, ladder: list[Rung]) -> Purchase:
    """Return what a run may buy, and what earlier tries at it have bought."""
    return ledger.wanted(compute, ladder).with_earlier(_load(run))


def keep(run: str, bought: Purchase, now: float) -> Paid | None:
    """Keep what a run has bought, whose machines end now, and return what it has come to; None where it was nothing."""
    ended = bought.seen((), now).with_earlier(_load(run))
    try:
        write_text(volumes.run_folder(run) / FILE, ended.model_dump_json() + "\n")
    except OSError as error:  # a full disk keeps no machine from being given back
        say(f"what the run has cost could not be kept: {error.strerror}")
    return ended.paid(now)


def paid(run: str) -> Paid | None:
    """Return what a run's machines have come to; None where none were bought."""
    found = _load(run)
    return found.paid(time.time()) if found else None


def hardware(bought: Purchase | None, rung: Rung, node: str, since: float, now: float) -> Hardware:
    """Return what a run has got to compute on, and when it has to stop there."""
    ends = (bought.hours_end(now), bought.cost_end(now)) if bought else (0.0, 0.0)
    return Hardware(rung=rung, node=node, since=since, until=ends[0], until_on_node=ends[1])


def _load(run: str) -> Purchase | None:
    try:
        return Purchase.model_validate_json((volumes.run_folder(run) / FILE).read_text())
    except (OSError, ValueError):
        return None
