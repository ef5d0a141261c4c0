"""The provision step: hardware for the run, ready to use.

The plan has settled who provides it: nobody (this machine, or whichever node the pods are placed on), Karpenter, GKE's
autoscaler, or the cluster's existing GPU nodes. `release` gives back what is bought, by the run's name.
"""

from collections.abc import Callable
from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.handover.resolved import Hardware, Resolved
from steps.common.nodes.node_provider import NodeProvider
from steps.common.nodes.pod_placement import Placement
from steps.common.runtime.exit_codes import step
from steps.provision import compute_class, free_node, local_machine
from steps.provision.attempt.attempts import Attempt
from steps.provision.karpenter import buy
from steps.provision.wait_for_weights import wait_until_nearly_fetched

GET_NODE: dict[NodeProvider, Callable[[Resolved, str], tuple[Hardware, Placement, list[Attempt]]]] = {
    NodeProvider.KARPENTER: buy.buy,
    NodeProvider.COMPUTE_CLASS: compute_class.buy,
    NodeProvider.EXISTING_NODES: free_node.wait_for_node,
}


class ProvisionInput(Input):
    """What the run needs."""

    resolved: Resolved


class ProvisionOutput(Output):
    """What the run got."""

    hardware: Hardware
    placement: Annotated[Placement, Parameter(description="Node and resources of the pods that compute")]
    attempts: Annotated[str, Parameter(description="What was tried, one line each")]


@step
def provision(input: ProvisionInput) -> ProvisionOutput:
    """Get a node. If an earlier attempt of this step got one, it is used.

    Raises:
        UserError: no node could be had; the text names the quota, the shortage or the setting, and what to do.
    """
    resolved, run = input.resolved, input.resolved.run or "unnamed"
    if resolved.quote.provider:
        wait_until_nearly_fetched(resolved.model)
        got = GET_NODE[NodeProvider(resolved.quote.provider)](resolved, run)
    else:
        got = local_machine.this_machine(resolved)
    hardware, placement, attempts = got
    return ProvisionOutput(hardware=hardware, placement=placement, attempts=in_words(attempts, hardware))


def in_words(attempts: list[Attempt], hardware: Hardware) -> str:
    """Return the attempts, one line each."""
    if not attempts:
        return f"{hardware.node}: {hardware.rung.device.name}"
    return "\n".join(attempt.in_words() for attempt in attempts)
