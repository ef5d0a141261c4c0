"""Takes back what a run has bought, after its evaluation and by its exit handler."""

import time
from dataclasses import dataclass, field

from steps.common.kubernetes.errors import ForbiddenError
from steps.common.kubernetes.resource import Resource
from steps.common.nodes import ledger_file, node_request
from steps.common.nodes.give_back import delete_holders, wait_until_gone
from steps.common.nodes.ledger import Paid
from steps.common.runtime import cluster_settings, settings
from steps.common.runtime.errors import UserError


@dataclass
class Taken:
    """What was taken back."""

    paid: Paid | None = None  # what the run's machines have come to; None: none were bought
    asked: list[tuple[Resource, str]] = field(default_factory=list)  # what was, or may have been, deleted now or before
    left: str = ""  # what is wrong, where something could not be


def take_back(run: str) -> Taken:
    """Delete what asks for the run's nodes; what they came to is kept in the run's folder before. Safe to do again."""
    taken = Taken(paid=ledger_file.paid(run))
    if not settings.compute_provider() and not cluster_settings.in_cluster():
        return taken  # on one machine nothing is bought
    space = cluster_settings.namespace()
    try:
        delete_holders(run, space)
        for kind in node_request.kinds():
            name, now = node_request.name_of(run, space), time.time()
            taken.asked.append((kind, name))
            if purchase := node_request.noted(kind, name, now):
                taken.paid = ledger_file.keep(run, purchase, now)
            kind.delete(name)
    except ForbiddenError as error:
        # A namespace that buys nothing, and whose account may not either, has nothing to give back.
        taken.left = str(error) if settings.compute_provider() else ""
    except UserError as error:
        taken.left = str(error)
    return taken


def wait(taken: Taken) -> None:
    """Wait until the machines of what was deleted have ended; where they have not in a quarter of an hour, note that."""
    for kind, name in taken.asked:
        try:
            wait_until_gone(kind, name)
        except UserError as error:
            taken.left = taken.left or str(error)
