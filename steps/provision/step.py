"""The provision step: something that computes, ready, and what it is.

The one provider there is so far, "local", takes the machine as it finds it. A provider that buys nodes returns the
same output and is given back by `release` through the run's name.
"""

import platform

from hera.workflows.io import Input, Output

from steps.common.devices import local_device
from steps.common.progress import say
from steps.common.resolved import Device, Resolved
from steps.common.step import step


class ProvisionInput(Input):
    """What the run needs."""

    resolved: Resolved


class ProvisionOutput(Output):
    """What the run got."""

    provider: str
    node: str
    device: Device


@step
def provision(input: ProvisionInput) -> ProvisionOutput:  # noqa: A002 - the name is Argo's
    """Report this machine's devices."""
    device = local_device()
    say(f"this machine: {device.count} x {device.name}, {device.memory_bytes / (1 << 30):.0f} GiB")
    return ProvisionOutput(provider="local", node=platform.node(), device=device)
