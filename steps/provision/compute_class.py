"""GPU nodes from GKE's autoscaler, requested with a ComputeClass that lists the ladder in its order.

https://cloud.google.com/kubernetes-engine/docs/reference/crds/computeclass
"""

import time
from typing import Any

from steps.common.handover.resolved import Hardware, Resolved, Rung
from steps.common.kubernetes.cluster_objects import COMPUTE_CLASS_LABEL, COMPUTE_CLASSES
from steps.common.nodes import ledger_file, node_request
from steps.common.nodes.ledger import RunningNode
from steps.common.nodes.pod_placement import Placement
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import InterruptedStepError, UserError
from steps.common.runtime.progress import say
from steps.provision.attempt import attempts
from steps.provision.attempt.attempts import Attempt
from steps.provision.attempt.causes import Cause, most_specific, next_step
from steps.provision.attempt.holder import Holder
from steps.provision.attempt.placement import on_a_bought_node, replacements

# Events in which the autoscaler says why it adds no node for a pod.
AUTOSCALER_EVENTS = ("NotTriggerScaleUp", "FailedScaleUp")


def buy(resolved: Resolved, run: str) -> tuple[Hardware, Placement, list[Attempt]]:
    """Get a node for the run from GKE, which walks down the ladder itself.

    Returns:
        The hardware, the placement of pods on it, and the attempt.

    Raises:
        UserError: the cluster has no ComputeClass, or no node came in time.
    """
    quote, compute = resolved.quote, resolved.recipe.compute
    if not COMPUTE_CLASSES.exists:
        raise UserError("the cluster has no ComputeClass (API group cloud.google.com); it requires GKE 1.30.3 or later")
    first, name = quote.first, node_request.name_of(run, cluster_settings.namespace())
    purchase = ledger_file.purchase_of(run, compute, quote.ladder)
    node_request.request(COMPUTE_CLASSES, compute_class(run, quote.ladder), purchase)
    # GKE chooses any rung: the pod fits on each of them.
    placement = on_a_bought_node(first, COMPUTE_CLASS_LABEL, name, others=quote.ladder)
    attempt, holder = attempts.begin(first), Holder(name, run, placement)
    holder.create()
    # Kubernetes keeps an Event for an hour, and the last message is not the most specific one.
    messages: dict[str, None] = {}
    node = holder.wait(
        attempt,
        "GKE's autoscaler",
        compute.wait_minutes * 60 * len(quote.ladder),
        lambda: messages.update(dict.fromkeys(_autoscaler_messages(holder))),
    )
    if not node:
        otherwise = " ".join(list(messages)[-1:]) or f"no answer in {attempt.seconds / 60:.0f} min"
        attempt.cause, attempt.reason = most_specific(messages) or (Cause.UNKNOWN, otherwise)
        attempts.save(run, [attempt])
        raise UserError(
            f"GKE added no node: {attempt.cause}: {attempt.reason}; {next_step(attempt.cause, first, 'gcp', '')}"
        )
    running = next((one for one in node_request.nodes_of(COMPUTE_CLASSES, name) if one.name == node), None)
    if running is None:
        raise InterruptedStepError(f"node {node} disappeared as soon as it was ready; the step is retried")
    rung = _rung(running, quote.ladder)
    attempt.instance_type, attempt.capacity, attempt.price = rung.instance_type, rung.capacity, rung.price
    attempts.save(run, [attempt])
    say(attempt.in_words())
    # From now on the class allows what may replace the node, and a pod keeps the node until the tuning starts on it.
    others = replacements(rung, quote.ladder)
    node_request.request(COMPUTE_CLASSES, compute_class(run, others), purchase)
    Holder(f"{name}-keeps", run, placement, idle=True).create()
    now = time.time()
    bought = node_request.record_nodes(COMPUTE_CLASSES, name, now)
    hardware = ledger_file.hardware(bought, rung, node, running.since, now)
    return hardware, on_a_bought_node(rung, COMPUTE_CLASS_LABEL, name, others=others), [attempt]


def compute_class(run: str, ladder: list[Rung]) -> dict[str, Any]:
    """Return the ComputeClass of a run."""
    return {
        "apiVersion": f"{COMPUTE_CLASSES.group}/{COMPUTE_CLASSES.version}",
        "kind": "ComputeClass",
        "metadata": node_request.metadata(run, cluster_settings.namespace()),
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


def _autoscaler_messages(holder: Holder) -> list[str]:
    return [" ".join(str(event.message).split()) for event in holder.events() if event.reason in AUTOSCALER_EVENTS]


def _rung(running: RunningNode, ladder: list[Rung]) -> Rung:
    """Return the rung of a node."""
    kind = (running.instance_type, running.capacity)
    return next((rung for rung in ladder if (rung.instance_type, rung.capacity) == kind), ladder[0])
