"""Gives back the nodes that a run has bought, after its evaluation and in its exit handler."""

import time
from dataclasses import dataclass, field

from steps.common.kubernetes.api_errors import ForbiddenError
from steps.common.kubernetes.resource import Resource
from steps.common.nodes import ledger_file, node_request
from steps.common.nodes.ledger import NodeCost
from steps.common.nodes.termination import delete_holders, wait_until_terminated
from steps.common.runtime import cluster_settings, settings
from steps.common.runtime.errors import UserError


@dataclass
class GivenBack:
    """What was given back."""

    cost: NodeCost | None = None  # what the run's nodes have cost; None: none was bought
    # The requests that were, or may have been, deleted now or before.
    requests: list[tuple[Resource, str]] = field(default_factory=list)
    problem: str = ""  # why something could not be given back


def give_back(run: str) -> GivenBack:
    """Delete the requests for the run's nodes, after saving their cost in the run's folder. Safe to repeat."""
    given = GivenBack(cost=ledger_file.cost_of(run))
    if not settings.compute_provider() and not cluster_settings.in_cluster():
        return given  # nothing is bought on one machine
    space = cluster_settings.namespace()
    try:
        delete_holders(run, space)
        for kind in node_request.request_kinds():
            name, now = node_request.name_of(run, space), time.time()
            given.requests.append((kind, name))
            if purchase := node_request.record_nodes(kind, name, now):
                given.cost = ledger_file.save(run, purchase, now)
            kind.delete(name, owner=node_request.owner_of(run, space))
    except ForbiddenError as error:
        # A namespace that has no provider buys nothing, and its account needs no permission to.
        given.problem = str(error) if settings.compute_provider() else ""
    except UserError as error:
        given.problem = str(error)
    return given


def wait(given: GivenBack) -> None:
    """Wait until the nodes of the deleted requests have terminated; note it as a problem if they have not in 15 minutes."""
    for kind, name in given.requests:
        try:
            wait_until_terminated(kind, name)
        except UserError as error:
            given.problem = given.problem or str(error)
