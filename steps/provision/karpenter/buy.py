"""Walks down the ladder until there is a node: requests an instance type, waits, reports why none came, goes on."""

import re
import time
from dataclasses import dataclass
from typing import Any

from steps.common.handover.resolved import Hardware, Resolved, Rung
from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import api_errors
from steps.common.kubernetes.cluster_objects import NODE_CLAIMS, NODE_POOL_LABEL, NODE_POOLS, created_at
from steps.common.kubernetes.resource import condition
from steps.common.nodes import ledger_file, node_classes, node_request
from steps.common.nodes.pod_placement import Placement
from steps.common.nodes.termination import delete_holders
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.runtime.waiting import WaitingLine
from steps.provision.attempt import attempts
from steps.provision.attempt.attempts import Attempt, Stage
from steps.provision.attempt.causes import FINAL, Cause, most_specific, next_step
from steps.provision.attempt.holder import Holder
from steps.provision.attempt.placement import on_a_bought_node, replacements
from steps.provision.karpenter.claims import Claims
from steps.provision.karpenter.pool import node_pool

POLL_SECONDS = 1.0
DRIVER_SECONDS = 900.0  # enough to install a driver on the node, and for its device plugin to register the GPUs
REGION_LABEL, ZONE_LABEL = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"
NO_ANSWER = "Karpenter reported nothing"
NOTHING_TO_OFFER = "Karpenter has no offering of this type: it is sold out, or not available in this region"
# How Karpenter's scheduler names the pool that a sentence is about; before 1.1 it wrote nodepool: "name", or nodepool "name".
NAMED_POOL = re.compile(r"""\bNodePool=([\w.-]+)|\bnodepool:? "([\w.-]+)\"""")
OBSERVED_SECONDS = 30.0
UNANSWERED_SECONDS = 20.0


@dataclass(frozen=True)
class GotNode:
    """The node that a run has got."""

    rung: Rung
    node: str
    since: float


def buy(resolved: Resolved, run: str) -> tuple[Hardware, Placement, list[Attempt]]:
    """Get a node for the run from Karpenter.

    Returns:
        The hardware, the placement of pods on it, and every attempt.

    Raises:
        UserError: no rung of the ladder led to a node; the text names the most useful reason, and what to do.
    """
    compute, quote = resolved.recipe.compute, resolved.quote
    reference = node_classes.reference(compute.node_class)
    pool = node_request.name_of(run, cluster_settings.namespace())
    made = attempts.load(run, quote.ladder)
    region, planned = _region(), ledger_file.purchase_of(run, compute, quote.ladder)
    with Claims(pool) as claims:
        got = _existing_node(pool, quote.ladder)
        for rung in quote.ladder:
            if got:
                break
            if any(one.is_of(rung) and one.cause for one in made):
                continue  # an earlier process of this step tried it
            attempt = attempts.begin(rung)
            made = [one for one in made if not one.is_of(rung)] + [attempt]
            placement = on_a_bought_node(rung, NODE_POOL_LABEL, pool, run)
            holder = Holder(f"{pool}-{quote.ladder.index(rung)}", run, placement)
            delete_holders(run, cluster_settings.namespace(), but=holder.name)  # those of a process that was killed
            claims.begin(rung)
            started = time.time()
            node_request.request(NODE_POOLS, node_pool(run, reference, [rung]), planned)
            _wait_until_observed(pool)
            _delete_claims(claims, claims.strays(rung))
            holder.create()
            got = _wait(claims, attempt, rung, holder, started, compute.wait_minutes * 60)
            attempts.save(run, made)
            say(attempt.in_words())
            if not got:
                _give_up(run, claims)
                if attempt.cause in FINAL:
                    break
    if not got:
        raise UserError(_why_none(made, quote.ladder, quote.cloud, region))
    others = replacements(got.rung, quote.ladder)
    node_request.request(NODE_POOLS, node_pool(run, reference, others), planned)
    now = time.time()
    purchase = node_request.record_nodes(NODE_POOLS, pool, now)
    delete_holders(run, cluster_settings.namespace())
    placement = on_a_bought_node(got.rung, NODE_POOL_LABEL, pool, run, others)
    return ledger_file.hardware(purchase, got.rung, got.node, got.since, now), placement, made


def _wait_until_observed(pool: str) -> None:
    """Wait until Karpenter has observed the pool's current generation: an earlier pod is matched against the earlier one."""
    end = time.monotonic() + OBSERVED_SECONDS
    while time.monotonic() < end:
        found = NODE_POOLS.read(pool) or {}
        ready = condition(found, "Ready")
        if ready and ready.get("observedGeneration", 0) >= found["metadata"]["generation"]:
            return
        time.sleep(POLL_SECONDS / 4)


def _existing_node(pool: str, ladder: list[Rung]) -> GotNode | None:
    """Return the node that an earlier process of this step got, if it still exists."""
    for claim in NODE_CLAIMS.list(f"{NODE_POOL_LABEL}={pool}"):
        if condition(claim, "Initialized").get("status") != "True" or "deletionTimestamp" in claim["metadata"]:
            continue
        labels = claim["metadata"]["labels"]
        kind = (labels.get("node.kubernetes.io/instance-type"), labels.get("karpenter.sh/capacity-type"))
        for rung in ladder:
            if kind == (rung.instance_type, rung.capacity):
                return GotNode(rung, claim["status"]["nodeName"], created_at(claim))
    return None


def _wait(
    claims: Claims, attempt: Attempt, rung: Rung, holder: Holder, started: float, seconds: float
) -> GotNode | None:
    """Follow one attempt to its end: a ready node, or a cause."""
    line, without_gpu_since = WaitingLine(), 0.0
    while True:
        attempt.seconds = time.time() - started
        line.report(f"{rung.instance_type} ({rung.capacity}): {attempt.stage}")
        claim = claims.newest(rung)
        failure = _failure(claims, claim, holder, started)
        if claim is None and holder.node() is None:
            holder.create()  # it was deleted before its node was requested
        if claim:
            _update(attempt, claim)
            initialized = condition(claim, "Initialized")
            # The taint reserves the node for the run, so it does not matter if the holder has been evicted meanwhile.
            if initialized.get("status") == "True" and holder.node() != "":
                attempt.stage = Stage.READY
                return GotNode(rung, claim["status"]["nodeName"], created_at(claim))
            # The node is up, but advertises no GPU.
            without_gpu = initialized.get("reason") == "ResourceNotRegistered"
            without_gpu_since = (without_gpu_since or time.time()) if without_gpu else 0.0
            if without_gpu and time.time() - without_gpu_since > min(DRIVER_SECONDS, seconds):
                failure = Cause.DRIVER, str(initialized.get("message", ""))
        # A node that is up gets as much time again, since its driver may be being installed.
        longest = seconds + (min(DRIVER_SECONDS, seconds) if without_gpu_since else 0.0)
        if not failure and attempt.seconds > longest:
            failure = _too_late(attempt, claim)
        if failure:
            attempt.cause, attempt.reason = failure
            return None
        time.sleep(POLL_SECONDS)


def _update(attempt: Attempt, claim: dict[str, Any]) -> None:
    attempt.zone = claim["metadata"].get("labels", {}).get(ZONE_LABEL, attempt.zone)
    for kind, stage in (("Launched", Stage.LAUNCHED), ("Registered", Stage.REGISTERED)):
        if condition(claim, kind).get("status") == "True":
            attempt.stage = stage


def _failure(claims: Claims, claim: dict[str, Any] | None, holder: Holder, started: float) -> tuple[Cause, str] | None:
    """Return why this attempt cannot succeed any more; None while it can."""
    pool = NODE_POOLS.read(claims.pool) or {}
    ready = condition(pool, "NodeClassReady")
    if ready.get("status") == "False":
        return Cause.CONFIGURATION, f"{ready.get('reason', '')}: {ready.get('message', '')}"
    # Messages about the pod count until there is a claim: then its node is on the way, and uses up the pool's limits.
    of_pod = [] if claim else _karpenter_messages(holder)
    of_ours = [text for text in (about_our_pool(text, claims.pool) for text in of_pod) if text]
    found, of_it = most_specific(claims.failures(started) + of_ours), most_specific(of_ours)
    # One zone without capacity is not the end: Karpenter tries the next one, unless it has no offering left for the pod.
    if found and found[0] is Cause.CAPACITY and not of_it and claims.quiet_for < UNANSWERED_SECONDS:
        return None
    if found:
        return found
    # Karpenter has answered for every other pool, and had no offering in ours to consider.
    if of_pod and time.time() - started > UNANSWERED_SECONDS:
        return Cause.CAPACITY, NOTHING_TO_OFFER
    return None


def _karpenter_messages(holder: Holder) -> list[str]:
    """Return Karpenter's messages about why it adds no node for the pod, without those of Kubernetes' scheduler."""
    return [
        str(event.message)
        for event in holder.events()
        if event.reason == "FailedScheduling"
        and "karpenter" in ((event.source and event.source.component) or event.reporting_component or "")
    ]


def about_our_pool(text: str, pool: str) -> str:
    """Return the part of Karpenter's message about a pod that does not concern other pools.

    Karpenter reports what each pool lacks, even those that the pod does not select: another run's pool, which has its one node,
    by its limits.
    """
    return "; ".join(
        part for part in text.split("; ") if f"key {NODE_POOL_LABEL}" not in part and _concerns(part, pool)
    )


def _concerns(part: str, pool: str) -> bool:
    named = [now or before for now, before in NAMED_POOL.findall(part)]
    return not named or pool in named


def _too_late(attempt: Attempt, claim: dict[str, Any] | None) -> tuple[Cause, str]:
    waited = f"waited for {attempt.seconds / 60:.0f} min"
    if attempt.stage is Stage.LAUNCHED:
        return Cause.REGISTRATION, f"{waited}: the node was launched, but has not joined the cluster"
    if attempt.stage is Stage.REGISTERED and claim:
        state = condition(claim, "Initialized")
        return Cause.UNKNOWN, f"{waited}: {state.get('reason', '')} {state.get('message', '')}".strip()
    launched = condition(claim, "Launched") if claim else {}
    return Cause.UNKNOWN, f"{waited}: {launched.get('message') or NO_ANSWER}"


def _give_up(run: str, claims: Claims) -> None:
    """Withdraw the request, so that no node arrives late and is paid for."""
    delete_holders(run, cluster_settings.namespace())
    _delete_claims(claims, claims.all())


def _delete_claims(claims: Claims, leaving: list[dict[str, Any]]) -> None:
    if leaving:
        # A launched node is paid for, whether it joins the cluster or not.
        node_request.record_nodes(NODE_POOLS, claims.pool, time.time())
    for claim in leaving:
        NODE_CLAIMS.delete(claim["metadata"]["name"])


def _why_none(made: list[Attempt], ladder: list[Rung], cloud: str, region: str) -> str:
    """Return the failure that the user can do most about, what to do, and what else was tried."""
    order = (
        Cause.CONFIGURATION,
        Cause.DRIVER,
        Cause.QUOTA,
        Cause.REGISTRATION,
        Cause.SIZE,
        Cause.CAPACITY,
        Cause.UNKNOWN,
    )
    failed = [one for one in made if one.cause]
    if not failed:
        return "provision: the ladder is empty"
    worst = min(failed, key=lambda one: order.index(one.cause or Cause.UNKNOWN))
    rung = next(rung for rung in ladder if worst.is_of(rung))
    others = [f"{one.instance_type} {one.capacity} ({one.cause})" for one in failed if one is not worst]
    besides = f"; also tried: {', '.join(others)}" if others else ""
    cause = worst.cause or Cause.UNKNOWN
    reason = worst.reason[:300]
    return f"no {rung.instance_type} ({rung.capacity}): {cause}: {reason}; {next_step(cause, rung, cloud, region)}{besides}"


def _region() -> str:
    """Return the cluster's region from its nodes' labels; empty if they have none."""
    with api_errors():
        nodes = client.core().list_node(limit=20).items
    return next((found for node in nodes if (found := (node.metadata.labels or {}).get(REGION_LABEL))), "")
