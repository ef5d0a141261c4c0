"""The machine as it is: nothing is bought."""

import platform
import time

from steps.common.devices import local_device
from steps.common.progress import say
from steps.common.resolved import Hardware, Resolved
from steps.provision.attempts import Attempt
from steps.provision.limits import until
from steps.provision.placement import placement


def this_machine(resolved: Resolved) -> tuple[Hardware, str, list[Attempt]]:
    """Report this machine's devices."""
    device, rung = local_device(), resolved.quote.first
    say(f"this machine: {device.count} x {device.name}, {device.memory_bytes / (1 << 30):.0f} GiB")
    now = time.time()
    rung = rung.model_copy(update={"device": device})
    ends = until(resolved.recipe.compute, now)
    return Hardware(rung=rung, node=platform.node(), since=now, until=ends), placement(rung), []
