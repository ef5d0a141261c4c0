"""Takes back what a run has bought, and keeps what it came to: the run's node ends before the run does."""

import time

from steps.common import bought, cluster, settings, volumes
from steps.common.errors import UserError
from steps.common.files import write_text
from steps.common.give_back import delete_holders, wait_until_gone
from steps.common.kinds import Kind
from steps.common.kubernetes import ForbiddenError
from steps.common.purchase import Paid

FILE = "paid.json"


def take_back(run: str) -> list[tuple[Kind, str]]:
    """Delete what asks for the run's nodes; what they came to is kept in the run's folder before.

    Returns:
        What was, or may have been, deleted by this or by an earlier call: kinds and names, for `wait`.

    Raises:
        UserError: the account may not, or the cluster does not answer.
    """
    space = cluster.namespace()
    try:
        delete_holders(run, space)
        kinds = bought.kinds()
    except ForbiddenError:
        if settings.compute_provider():
            raise
        return []  # a namespace that buys nothing, and whose account may not either
    found = [(kind, bought.name_of(run, space)) for kind in kinds]
    for kind, name in found:
        now = time.time()
        purchase = bought.noted(kind, name, now)
        if purchase and (paid := purchase.paid(now)):
            write_text(volumes.run_folder(run) / FILE, paid.model_dump_json() + "\n")
        kind.delete(name)
    return found


def wait(taken: list[tuple[Kind, str]]) -> None:
    """Wait until the machines of what was deleted have ended.

    Raises:
        UserError: they have not in a quarter of an hour.
    """
    for kind, name in taken:
        wait_until_gone(kind, name)


def paid(run: str) -> Paid | None:
    """Return what the run's machines have come to; None where none were bought."""
    try:
        return Paid.model_validate_json((volumes.run_folder(run) / FILE).read_text())
    except FileNotFoundError:
        return None


def or_why_not(run: str) -> tuple[list[tuple[Kind, str]], str]:
    """Return what was taken back, and what is wrong where it could not be; on one machine there is nothing to take."""
    if not settings.compute_provider() and not cluster.serve_image():
        return [], ""
    try:
        return take_back(run), ""
    except UserError as error:
        return [], str(error)
