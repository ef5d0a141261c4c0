"""The provision step: something that computes, ready, and what it is.

Who brings it was settled by plan: nobody (this machine, or whichever node the pods come to), Karpenter, GKE's autoscaler,
or whoever brought the GPU nodes that are there. What is bought is given back by `release`, through the run's name.
"""

from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.handover.resolved import Hardware, Resolved
from steps.common.runtime.exit_codes import step
from steps.provision import compute_class, free_node, local_machine
from steps.provision.attempt.attempts import Attempt
from steps.provision.karpenter import buy
from steps.provision.weights_nearly_there import wait_until_near


class ProvisionInput(Input):
    """What the run needs."""

    resolved: Resolved


class ProvisionOutput(Output):
    """What the run got."""

    hardware: Hardware
    placement: Annotated[str, Parameter(description="Patch of a pod's spec that brings it there")]
    attempts: Annotated[str, Parameter(description="What was tried, a line each")]


@step
def provision(input: ProvisionInput) -> ProvisionOutput:
    """Get a node; one that an earlier attempt of this step has got is found again.

    Raises:
        UserError: none could be had; the text names the quota, the lack or the setting, and what to do.
    """
    resolved, run = input.resolved, input.resolved.run or "unnamed"
    provider = resolved.quote.provider
    if provider:
        wait_until_near(resolved.model)
    if provider == "karpenter":
        got = buy.buy(resolved, run)
    elif provider == "compute-class":
        got = compute_class.buy(resolved, run)
    elif provider == "nodes":
        got = free_node.wait_for_node(resolved, run)
    else:
        got = local_machine.this_machine(resolved)
    hardware, placement, attempts = got
    return ProvisionOutput(hardware=hardware, placement=placement, attempts=in_words(attempts, hardware))


def in_words(attempts: list[Attempt], hardware: Hardware) -> str:
    """Return the attempts, a line each."""
    if not attempts:
        return f"{hardware.node}: {hardware.rung.device.name}"
    return "\n".join(attempt.in_words() for attempt in attempts)
