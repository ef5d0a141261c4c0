"""GPU nodes that are there already: waits until one has its GPUs free."""

import time
from typing import Any

from presets.memory import GIB
from steps.common import bought, cluster, gpu_nodes, kubernetes
from steps.common.errors import UserError
from steps.common.give_back import delete_holders
from steps.common.progress import Progress, say
from steps.common.resolved import Hardware, Resolved, Rung
from steps.provision import attempts, holder
from steps.provision.attempts import Attempt, Stage
from steps.provision.causes import Cause
from steps.provision.limits import until
from steps.provision.placement import placement, tolerations

POLL_SECONDS = 1.0


def wait_for_node(resolved: Resolved, run: str) -> tuple[Hardware, str, list[Attempt]]:
    """Wait for a node of the ladder's types, in its order, each for as long as the recipe says.

    Returns:
        What was got, the patch that brings pods there, and every attempt.

    Raises:
        UserError: none of them came free in time.
    """
    quote, compute = resolved.quote, resolved.recipe.compute
    made: list[Attempt] = []
    for number, rung in enumerate(quote.ladder):
        attempt = attempts.begin(rung)
        made.append(attempt)
        where = {"affinity": _affinity(rung), "tolerations": tolerations()}
        name = f"{bought.name_of(run, cluster.namespace())}-{number}"
        holder.create(name, run, rung, where)
        node = _wait(name, attempt, rung, compute.wait_minutes * 60)
        delete_holders(run, cluster.namespace())
        attempts.save(run, made)
        say(attempt.in_words())
        if node:
            since = time.time()
            hardware = Hardware(rung=rung, node=node, since=since, until=until(compute, rung, since))
            return hardware, placement(rung, affinity=_affinity(rung)), made
    tried = ", ".join(f"{one.instance_type}: {one.reason}" for one in made)
    raise UserError(
        f"no GPU node came free in {compute.wait_minutes:g} min each ({tried}); wait for other runs, or add nodes"
    )


def _wait(name: str, attempt: Attempt, rung: Rung, seconds: float) -> str:
    progress = Progress(0, f"s, waiting for a free {rung.instance_type}")
    started = time.time()
    while True:
        attempt.seconds = time.time() - started
        if node := holder.node_of(name):
            attempt.stage = Stage.READY
            return node
        if attempt.seconds > seconds:
            attempt.cause = Cause.CAPACITY
            attempt.reason = (
                _why_pending(name) or f"no node has {rung.gpus} GPUs and {rung.host_bytes / GIB:.0f} GiB free"
            )
            return ""
        progress.update(round(attempt.seconds))
        time.sleep(POLL_SECONDS)


def _affinity(rung: Rung) -> dict[str, Any]:
    """Return what keeps a pod on the nodes of that type; those without the label of a type are known by their GPU."""
    terms = [
        {"matchExpressions": [{"key": key, "operator": "In", "values": [rung.instance_type]}]}
        for key in (gpu_nodes.TYPE_LABEL, gpu_nodes.PRODUCT_LABEL)
    ]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _why_pending(name: str) -> str:
    with kubernetes.in_one_line():
        pod = kubernetes.core().read_namespaced_pod(name, cluster.namespace())
    unmet = [one.message for one in pod.status.conditions or [] if one.status != "True" and one.message]
    return unmet[0] if unmet else ""
