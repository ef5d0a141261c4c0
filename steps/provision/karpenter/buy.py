"""Walks down the ladder until a node is there: asks for one instance type, waits, says why it did not come, goes on."""

import re
import time
from dataclasses import dataclass
from typing import Any

from steps.common.handover.resolved import Hardware, Resolved, Rung
from steps.common.kubernetes import client
from steps.common.kubernetes.cluster_objects import NODE_CLAIMS, NODE_POOL_LABEL, NODE_POOLS, created_at
from steps.common.kubernetes.errors import api_errors
from steps.common.kubernetes.resource import condition
from steps.common.nodes import ledger_file, node_classes, node_request
from steps.common.nodes.give_back import delete_holders
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress, say
from steps.provision.attempt import attempts
from steps.provision.attempt.attempts import Attempt, Stage
from steps.provision.attempt.causes import FINAL, Cause, next_step, weightiest
from steps.provision.attempt.holder import Holder
from steps.provision.attempt.placement import in_its_place, placement, tolerations
from steps.provision.karpenter.claims import Claims
from steps.provision.karpenter.pool import TAINT, node_pool

POLL_SECONDS = 1.0
DRIVER_SECONDS = 900.0  # a driver that is installed on the node has been, and its device plugin has registered its GPUs
REGION_LABEL, ZONE_LABEL = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"
NO_ANSWER = "nothing was heard of it"
NOTHING_TO_OFFER = "Karpenter has none of this type to offer: it is sold out, or not sold in this region"
# As Karpenter's scheduler names whom a sentence is about; until 1.1 it wrote nodepool: "name", or nodepool "name".
NAMED_POOL = re.compile(r"""\bNodePool=([\w.-]+)|\bnodepool:? "([\w.-]+)\"""")
SEEN_SECONDS = 30.0
UNANSWERED_SECONDS = 20.0


@dataclass(frozen=True)
class Got:
    """A node."""

    rung: Rung
    node: str
    since: float


def buy(resolved: Resolved, run: str) -> tuple[Hardware, str, list[Attempt]]:
    """Get a node for the run, through Karpenter.

    Returns:
        What was got, the patch that brings pods there, and every attempt.

    Raises:
        UserError: no rung of the ladder gave a node; the text says why the last one did not, and what to do.
    """
    compute, quote = resolved.recipe.compute, resolved.quote
    reference = node_classes.reference(compute.node_class)
    pool = node_request.name_of(run, cluster_settings.namespace())
    made = attempts.load(run, quote.ladder)
    region, account = _region(), ledger_file.wanted(run, compute, quote.ladder)
    with Claims(pool) as claims:
        got = _still_there(pool, quote.ladder)
        for rung in quote.ladder:
            if got:
                break
            if any(one.is_of(rung) and one.cause for one in made):
                continue  # an earlier process of this step has tried it
            attempt = attempts.begin(rung)
            made = [one for one in made if not one.is_of(rung)] + [attempt]
            holder = Holder.of(f"{pool}-{quote.ladder.index(rung)}", run, rung, _where(pool))
            delete_holders(
                run, cluster_settings.namespace(), but=holder.name
            )  # what a process that was killed has left
            claims.begin(rung)
            started = time.time()
            node_request.ask(NODE_POOLS, node_pool(run, reference, [rung]), account)
            _until_seen(pool)
            _take_back(claims, claims.strays(rung))
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
    node_request.ask(NODE_POOLS, node_pool(run, reference, in_its_place(got.rung, quote.ladder)), account)
    now = time.time()
    purchase = node_request.noted(NODE_POOLS, pool, now)
    delete_holders(run, cluster_settings.namespace())
    patch = placement(got.rung, selector={NODE_POOL_LABEL: pool}, own_taint=TAINT)
    return ledger_file.hardware(purchase, got.rung, got.node, got.since, now), patch, made


def _until_seen(pool: str) -> None:
    """Wait until Karpenter has taken the pool up as it is now: a pod that comes before is held against the pool before."""
    end = time.monotonic() + SEEN_SECONDS
    while time.monotonic() < end:
        found = NODE_POOLS.read(pool) or {}
        ready = condition(found, "Ready")
        if ready and ready.get("observedGeneration", 0) >= found["metadata"]["generation"]:
            return
        time.sleep(POLL_SECONDS / 4)


def _where(pool: str) -> dict[str, Any]:
    return {"nodeSelector": {NODE_POOL_LABEL: pool}, "tolerations": tolerations(TAINT)}


def _still_there(pool: str, ladder: list[Rung]) -> Got | None:
    """Return the node that an earlier process of this step has got, where it is still there."""
    for claim in NODE_CLAIMS.list(f"{NODE_POOL_LABEL}={pool}"):
        if condition(claim, "Initialized").get("status") != "True" or "deletionTimestamp" in claim["metadata"]:
            continue
        labels = claim["metadata"]["labels"]
        told = (labels.get("node.kubernetes.io/instance-type"), labels.get("karpenter.sh/capacity-type"))
        for rung in ladder:
            if told == (rung.instance_type, rung.capacity):
                return Got(rung, claim["status"]["nodeName"], created_at(claim))
    return None


def _wait(claims: Claims, attempt: Attempt, rung: Rung, holder: Holder, started: float, seconds: float) -> Got | None:
    """Follow one attempt to its end: a node that is ready, or a cause."""
    progress = Progress(0, f"s, waiting for {rung.instance_type} ({rung.capacity})")
    blind_since = 0.0
    while True:
        attempt.seconds = time.time() - started
        progress.update(round(attempt.seconds), attempt.stage)
        claim = claims.newest(rung)
        failure = _failure(claims, claim, holder, started)
        if claim is None and holder.node() is None:
            holder.create()  # somebody has deleted it before its node was asked for
        if claim:
            _note(attempt, claim)
            initialized = condition(claim, "Initialized")
            # The node is the run's own, by its taint: a holder that was evicted meanwhile is not missed.
            if initialized.get("status") == "True" and holder.node() != "":
                attempt.stage = Stage.READY
                return Got(rung, claim["status"]["nodeName"], created_at(claim))
            # The node is up, and offers no GPU.
            blind = initialized.get("reason") == "ResourceNotRegistered"
            blind_since = (blind_since or time.time()) if blind else 0.0
            if blind and time.time() - blind_since > min(DRIVER_SECONDS, seconds):
                failure = Cause.DRIVER, str(initialized.get("message", ""))
        # A node that is up is waited for as long again: what lacks is its driver, which is installed on it just now.
        longest = seconds + (min(DRIVER_SECONDS, seconds) if blind_since else 0.0)
        if not failure and attempt.seconds > longest:
            failure = _too_late(attempt, claim)
        if failure:
            attempt.cause, attempt.reason = failure
            return None
        time.sleep(POLL_SECONDS)


def _note(attempt: Attempt, claim: dict[str, Any]) -> None:
    attempt.zone = claim["metadata"].get("labels", {}).get(ZONE_LABEL, attempt.zone)
    for kind, stage in (("Launched", Stage.LAUNCHED), ("Registered", Stage.REGISTERED)):
        if condition(claim, kind).get("status") == "True":
            attempt.stage = stage


def _failure(claims: Claims, claim: dict[str, Any] | None, holder: Holder, started: float) -> tuple[Cause, str] | None:
    """Return why this attempt cannot succeed any more, or None while it may."""
    pool = NODE_POOLS.read(claims.pool) or {}
    ready = condition(pool, "NodeClassReady")
    if ready.get("status") == "False":
        return Cause.CONFIGURATION, f"{ready.get('reason', '')}: {ready.get('message', '')}"
    # What is said of the pod counts while nothing was asked for; then its node is under way, and fills the pool's limits.
    of_pod = [] if claim else _said_of(holder)
    of_ours = [text for text in (of_our_pool(text, claims.pool) for text in of_pod) if text]
    found, of_it = weightiest(claims.failures(started) + of_ours), weightiest(of_ours)
    # A zone that has none is not the last one: Karpenter asks in the next, unless it has nothing more to offer the pod.
    if found and found[0] is Cause.CAPACITY and not of_it and claims.quiet_for < UNANSWERED_SECONDS:
        return None
    if found:
        return found
    # Karpenter has looked at every other pool, and had nothing of ours to look at.
    if of_pod and time.time() - started > UNANSWERED_SECONDS:
        return Cause.CAPACITY, NOTHING_TO_OFFER
    return None


def _said_of(holder: Holder) -> list[str]:
    """Return why Karpenter brings no node for a pod, in its own words; the scheduler's are not asked for."""
    return [
        str(event.message)
        for event in holder.said()
        if event.reason == "FailedScheduling"
        and "karpenter" in ((event.source and event.source.component) or event.reporting_component or "")
    ]


def of_our_pool(text: str, pool: str) -> str:
    """Return the part of Karpenter's answer to a pod that is not about other pools, which the pod did not ask.

    A pool that is not the pod's is told of by what it lacks all the same: another run's pool, which has its one node, by its
    limits.
    """
    return "; ".join(part for part in text.split("; ") if f"key {NODE_POOL_LABEL}" not in part and _is_of(part, pool))


def _is_of(part: str, pool: str) -> bool:
    named = [now or before for now, before in NAMED_POOL.findall(part)]
    return not named or pool in named


def _too_late(attempt: Attempt, claim: dict[str, Any] | None) -> tuple[Cause, str]:
    waited = f"waited for {attempt.seconds / 60:.0f} min"
    if attempt.stage is Stage.LAUNCHED:
        return Cause.REGISTRATION, f"{waited}: the machine was launched and has not joined the cluster"
    if attempt.stage is Stage.REGISTERED and claim:
        told = condition(claim, "Initialized")
        return Cause.UNKNOWN, f"{waited}: {told.get('reason', '')} {told.get('message', '')}".strip()
    launched = condition(claim, "Launched") if claim else {}
    return Cause.UNKNOWN, f"{waited}: {launched.get('message') or NO_ANSWER}"


def _give_up(run: str, claims: Claims) -> None:
    """Take back what was asked for, so that nothing arrives late and is paid for."""
    delete_holders(run, cluster_settings.namespace())
    _take_back(claims, claims.all())


def _take_back(claims: Claims, leaving: list[dict[str, Any]]) -> None:
    if leaving:
        # A machine that was launched is paid for, whether it joins or not.
        node_request.noted(NODE_POOLS, claims.pool, time.time())
    for claim in leaving:
        NODE_CLAIMS.delete(claim["metadata"]["name"])


def _why_none(made: list[Attempt], ladder: list[Rung], cloud: str, region: str) -> str:
    """Return the failure that a person can do most about, with what to do, and what else was tried."""
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
        return "provision: there was nothing to try"
    worst = min(failed, key=lambda one: order.index(one.cause or Cause.UNKNOWN))
    rung = next(rung for rung in ladder if worst.is_of(rung))
    others = [f"{one.instance_type} {one.capacity} ({one.cause})" for one in failed if one is not worst]
    besides = f"; tried besides: {', '.join(others)}" if others else ""
    cause = worst.cause or Cause.UNKNOWN
    reason = worst.reason[:300]
    return f"no {rung.instance_type} ({rung.capacity}): {cause}: {reason}; {next_step(cause, rung, cloud, region)}{besides}"


def _region() -> str:
    """Return the cluster's region, as its nodes are labelled; empty where they are not."""
    with api_errors():
        nodes = client.core().list_node(limit=20).items
    return next((found for node in nodes if (found := (node.metadata.labels or {}).get(REGION_LABEL))), "")
