"""GPU nodes that GKE's own autoscaler brings, by a ComputeClass that lists the ladder in its order.

https://cloud.google.com/kubernetes-engine/docs/reference/crds/computeclass
"""

import time
from typing import Any

from steps.common.handover.resolved import Hardware, Resolved, Rung
from steps.common.kubernetes.cluster_objects import COMPUTE_CLASS_LABEL, COMPUTE_CLASSES
from steps.common.nodes import ledger_file, node_request
from steps.common.nodes.ledger import There
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import InterruptedStepError, UserError
from steps.common.runtime.progress import say
from steps.provision.attempt import attempts
from steps.provision.attempt.attempts import Attempt
from steps.provision.attempt.causes import Cause, next_step, weightiest
from steps.provision.attempt.holder import Holder
from steps.provision.attempt.placement import in_its_place, placement, tolerations

# What the autoscaler says of a pod for which it brings no node.
SAID = ("NotTriggerScaleUp", "FailedScaleUp")
KEEPER_BYTES = 16 << 20


def buy(resolved: Resolved, run: str) -> tuple[Hardware, str, list[Attempt]]:
    """Get a node for the run, through GKE; it walks down the list itself.

    Returns:
        What was got, the patch that brings pods there, and the attempt.

    Raises:
        UserError: the cluster knows no ComputeClass, or no node came in time.
    """
    quote, compute = resolved.quote, resolved.recipe.compute
    if not COMPUTE_CLASSES.exists:
        raise UserError("the cluster has no ComputeClass (of cloud.google.com); it takes GKE 1.30.3 or later")
    first, name = quote.first, node_request.name_of(run, cluster_settings.namespace())
    account = ledger_file.wanted(run, compute, quote.ladder)
    node_request.ask(COMPUTE_CLASSES, compute_class(run, quote.ladder), account)
    where = {"nodeSelector": {COMPUTE_CLASS_LABEL: name}, "tolerations": tolerations()}
    attempt, holder = attempts.begin(first), Holder.of(name, run, first, where)
    holder.create()
    # An Event is kept for an hour, and what GKE says last is not what tells most.
    heard: dict[str, None] = {}
    node = holder.wait(
        attempt,
        "GKE's autoscaler",
        compute.wait_minutes * 60 * len(quote.ladder),
        lambda: heard.update(dict.fromkeys(_said(holder))),
    )
    if not node:
        otherwise = (
            " ".join(list(heard)[-1:]) or f"waited for {attempt.seconds / 60:.0f} min, and nothing was heard of it"
        )
        attempt.cause, attempt.reason = weightiest(heard) or (Cause.UNKNOWN, otherwise)
        attempts.save(run, [attempt])
        raise UserError(
            f"GKE brought no node: {attempt.cause}: {attempt.reason}; {next_step(attempt.cause, first, 'gcp', '')}"
        )
    there = next((one for one in node_request.machines(COMPUTE_CLASSES, name) if one.name == node), None)
    if there is None:
        raise InterruptedStepError(f"{node} was taken away as it came; the step is tried again")
    rung = _rung(there, quote.ladder)
    attempt.instance_type, attempt.capacity, attempt.price = rung.instance_type, rung.capacity, rung.price
    attempts.save(run, [attempt])
    say(attempt.in_words())
    # What could take its place from now on; and a pod that keeps the node, empty as it is until the training comes.
    node_request.ask(COMPUTE_CLASSES, compute_class(run, in_its_place(rung, quote.ladder)), account)
    Holder(f"{name}-keeps", run, 0, KEEPER_BYTES, where).create()
    now = time.time()
    purchase = node_request.noted(COMPUTE_CLASSES, name, now)
    hardware = ledger_file.hardware(purchase, rung, node, there.since, now)
    return hardware, placement(rung, selector={COMPUTE_CLASS_LABEL: name}), [attempt]


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


def _said(holder: Holder) -> list[str]:
    return [" ".join(str(event.message).split()) for event in holder.said() if event.reason in SAID]


def _rung(there: There, ladder: list[Rung]) -> Rung:
    """Return the rung that a machine is of."""
    kind = (there.instance_type, there.capacity)
    return next((rung for rung in ladder if (rung.instance_type, rung.capacity) == kind), ladder[0])
