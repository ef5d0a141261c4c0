"""Takes back what a run has bought, after its evaluation and by its exit handler."""

import time
from dataclasses import dataclass, field

from steps.common import bought, cluster, settings, spent
from steps.common.errors import UserError
from steps.common.give_back import delete_holders, wait_until_gone
from steps.common.kinds import Kind
from steps.common.kubernetes import ForbiddenError
from steps.common.purchase import Paid


@dataclass
class Taken:
    """What was taken back."""

    paid: Paid | None = None  # what the run's machines have come to; None: none were bought
    asked: list[tuple[Kind, str]] = field(default_factory=list)  # what was, or may have been, deleted now or before
    left: str = ""  # what is wrong, where something could not be


def take_back(run: str) -> Taken:
    """Delete what asks for the run's nodes; what they came to is kept in the run's folder before. Safe to do again."""
    taken = Taken(paid=spent.paid(run))
    if not settings.compute_provider() and not cluster.serve_image():
        return taken  # on one machine nothing is bought
    space = cluster.namespace()
    try:
        delete_holders(run, space)
        for kind in bought.kinds():
            name, now = bought.name_of(run, space), time.time()
            taken.asked.append((kind, name))
            if purchase := bought.noted(kind, name, now):
                taken.paid = spent.keep(run, purchase, now)
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
