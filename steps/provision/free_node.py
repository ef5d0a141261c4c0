"""The cluster's existing GPU nodes: waits until one has enough free GPUs."""

import time

from presets.memory import GIB
from steps.common.handover.resolved import Hardware, Resolved
from steps.common.nodes import node_request
from steps.common.nodes.pod_placement import Placement
from steps.common.nodes.termination import delete_holders
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.provision.attempt import attempts
from steps.provision.attempt.attempts import Attempt
from steps.provision.attempt.causes import Cause
from steps.provision.attempt.holder import Holder
from steps.provision.attempt.placement import on_a_shared_node
from steps.provision.deadline import until


def wait_for_node(resolved: Resolved, run: str) -> tuple[Hardware, Placement, list[Attempt]]:
    """Wait for a node of each of the ladder's types in turn, for as long as the recipe says.

    Returns:
        The hardware, the placement of pods on it, and every attempt.

    Raises:
        UserError: none became free in time.
    """
    quote, compute = resolved.quote, resolved.recipe.compute
    made: list[Attempt] = []
    for number, rung in enumerate(quote.ladder):
        attempt = attempts.begin(rung)
        made.append(attempt)
        placement = on_a_shared_node(rung, rung.instance_type)
        holder = Holder(f"{node_request.name_of(run, cluster_settings.namespace())}-{number}", run, placement)
        holder.create()
        node = holder.wait(attempt, f"a free {rung.instance_type}", compute.wait_minutes * 60)
        if not node:
            attempt.cause = Cause.CAPACITY
            otherwise = f"no node has {rung.gpus} GPUs and {rung.host_bytes / GIB:.0f} GiB free"
            attempt.reason = holder.unmet() or otherwise
        delete_holders(run, cluster_settings.namespace())
        attempts.save(run, made)
        say(attempt.in_words())
        if node:
            since = time.time()
            hardware = Hardware(rung=rung, node=node, since=since, until=until(compute, since))
            return hardware, placement, made
    tried = ", ".join(f"{one.instance_type}: {one.reason}" for one in made)
    raise UserError(
        f"no GPU node became free within {compute.wait_minutes:g} min each ({tried}); wait for other runs to end, or add nodes"
    )
