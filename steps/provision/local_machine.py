"""This machine as the hardware of a run: nothing is bought."""

import platform
import time

from steps.common.handover.resolved import Hardware, Resolved
from steps.common.machine.devices import local_device
from steps.common.nodes.pod_placement import Placement
from steps.common.runtime.progress import say
from steps.provision.attempt.attempts import Attempt
from steps.provision.attempt.placement import on_a_shared_node
from steps.provision.deadline import until


def this_machine(resolved: Resolved) -> tuple[Hardware, Placement, list[Attempt]]:
    """Report this machine's devices."""
    device, rung = local_device(), resolved.quote.first
    say(f"this machine: {device.count} x {device.name}, {device.memory_bytes / (1 << 30):.0f} GiB")
    now = time.time()
    rung = rung.model_copy(update={"device": device})
    ends = until(resolved.recipe.compute, now)
    return Hardware(rung=rung, node=platform.node(), since=now, until=ends), on_a_shared_node(rung), []
