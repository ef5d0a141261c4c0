"""GPU nodes that GKE's own autoscaler brings, by a ComputeClass that lists the ladder in its order.

https://cloud.google.com/kubernetes-engine/docs/reference/crds/computeclass
"""

import time
from typing import Any

from steps.common import bought, cluster, gpu_nodes, kubernetes
from steps.common.errors import UserError
from steps.common.give_back import delete_holders
from steps.common.kinds import CLASS_LABEL, CLASSES
from steps.common.progress import say
from steps.common.resolved import Hardware, Resolved, Rung
from steps.provision import attempts, holder
from steps.provision.attempts import Attempt
from steps.provision.causes import classify, next_step
from steps.provision.limits import until
from steps.provision.placement import placement, tolerations

SPOT_LABEL = "cloud.google.com/gke-spot"
# What the autoscaler says of a pod for which it brings no node.
SAID = ("NotTriggerScaleUp", "FailedScaleUp")


def buy(resolved: Resolved, run: str) -> tuple[Hardware, str, list[Attempt]]:
    """Get a node for the run, through GKE; it walks down the list itself.

    Returns:
        What was got, the patch that brings pods there, and the attempt.

    Raises:
        UserError: the cluster knows no ComputeClass, or no node came in time.
    """
    quote, compute = resolved.quote, resolved.recipe.compute
    if not CLASSES.served:
        raise UserError("the cluster has no ComputeClass (no API group cloud.google.com); it takes GKE 1.30.3 or later")
    first, name = quote.first, bought.name_of(run, cluster.namespace())
    CLASSES.apply(compute_class(run, quote.ladder))
    where = {"nodeSelector": {CLASS_LABEL: name}, "tolerations": tolerations()}
    attempt, started = attempts.begin(first), time.time()
    holder.create(name, run, first, where)
    node = holder.wait(name, attempt, "GKE's autoscaler", compute.wait_minutes * 60 * len(quote.ladder))
    if not node:
        said = _said(name)
        attempt.reason = said or f"waited for {attempt.seconds / 60:.0f} min, and nothing was heard of it"
        attempt.cause = classify(said)
        attempts.save(run, [attempt])
        raise UserError(
            f"GKE brought no node: {attempt.cause}: {attempt.reason}; {next_step(attempt.cause, first, 'gcp', '')}"
        )
    rung = _rung(node, quote.ladder)
    attempt.instance_type, attempt.capacity, attempt.price = rung.instance_type, rung.capacity, rung.price
    attempts.save(run, [attempt])
    say(attempt.in_words())
    ends = until(compute, rung, started)
    CLASSES.annotate(name, bought.note(rung, time.time(), ends))
    delete_holders(run, cluster.namespace())
    hardware = Hardware(rung=rung, node=node, since=started, until=ends)
    return hardware, placement(rung, selector={CLASS_LABEL: name}), [attempt]


def compute_class(run: str, ladder: list[Rung]) -> dict[str, Any]:
    """Return the ComputeClass of a run."""
    return {
        "apiVersion": f"{CLASSES.group}/{CLASSES.version}",
        "kind": "ComputeClass",
        "metadata": bought.metadata(run, cluster.namespace()),
        "spec": {
            "priorities": [
                {
                    "machineType": rung.instance_type,
                    "spot": rung.capacity == "spot",
                    "gpu": {"type": rung.accelerator, "count": rung.node_gpus, "driverVersion": "default"},
                }
                for rung in ladder
            ],
            "nodePoolAutoCreation": {"enabled": True},
            "whenUnsatisfiable": "DoNotScaleUp",
        },
    }


def _said(name: str) -> str:
    told = [event for event in holder.said(name) if event.reason in SAID]
    return " ".join(str(told[-1].message).split()) if told else ""


def _rung(node: str, ladder: list[Rung]) -> Rung:
    """Return the rung that the node is of."""
    with kubernetes.in_one_line():
        labels = kubernetes.core().read_node(node).metadata.labels or {}
    capacity = "spot" if labels.get(SPOT_LABEL) == "true" else "on-demand"
    kind = labels.get(gpu_nodes.TYPE_LABEL)
    return next((rung for rung in ladder if (rung.instance_type, rung.capacity) == (kind, capacity)), ladder[0])
