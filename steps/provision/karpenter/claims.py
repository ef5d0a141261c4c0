"""Watches what Karpenter asks its cloud for, from before the first request.

A NodeClaim for which there was no capacity is deleted within seconds, and only its Event says why; on Azure the reason
stands in its conditions, as briefly. So conditions are taken down as they change, and Events are read besides.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from steps.common.handover.resolved import Rung
from steps.common.kubernetes import client
from steps.common.kubernetes.cluster_objects import NODE_CLAIMS, NODE_POOL_LABEL, created_at
from steps.common.kubernetes.errors import api_errors
from steps.common.kubernetes.resource import condition
from steps.common.nodes.gpu_nodes import TYPE_LABEL
from steps.common.nodes.node_request import CAPACITY_LABEL

WATCH_SECONDS = 60
RETRY_SECONDS = 1.0
# What a condition says while nothing is wrong yet.
WAITING = (
    "",
    "AwaitingReconciliation",
    "NodeNotFound",
    "NodeNotReady",
    "StartupTaintsExist",
    "KnownEphemeralTaintsExist",
)


@dataclass(frozen=True)
class Said:
    """What was said of the pool, or of one of its NodeClaims."""

    when: float
    claim: str  # its name; empty: of the pool
    text: str  # reason and message


@dataclass
class Claims:
    """The NodeClaims of one pool, and what was said of them."""

    pool: str
    _said: list[Said] = field(default_factory=list)
    _seen: dict[str, dict[str, Any]] = field(default_factory=dict)  # every NodeClaim that ever was, as it was last
    _earlier: set[str] = field(default_factory=set)  # names of the NodeClaims of earlier attempts
    _old: set[tuple[str, int]] = field(default_factory=set)  # Events of earlier attempts
    _heard: float = field(default_factory=time.monotonic)  # when there last was one
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Claims":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def begin(self, rung: Rung) -> None:
        """Begin a new attempt: what was, and will yet be, said of the NodeClaims of others is not of it.

        A NodeClaim that asks for what this rung is, and is not leaving, is this attempt's: an earlier process has caused it.
        """
        for claim in self.all():
            self._seen[claim["metadata"]["name"]] = claim
        self._earlier = {name for name, claim in list(self._seen.items()) if not _asks_for(claim, rung)}
        self._old = {key for key, _, _ in _events(self.pool)}

    def strays(self, rung: Rung) -> list[dict[str, Any]]:
        """Return the NodeClaims of other rungs, which came late or were left: they would fill the pool, and be paid for."""
        return [one for one in self.all() if not _asks_for(one, rung) and "deletionTimestamp" not in one["metadata"]]

    @property
    def quiet_for(self) -> float:
        """Seconds since there was a NodeClaim."""
        return time.monotonic() - self._heard

    def newest(self, rung: Rung) -> dict[str, Any] | None:
        """Return the youngest NodeClaim for that rung, one that an earlier process has caused too."""
        found = [one for one in self.all() if _asks_for(one, rung)]
        if found:
            self._heard = time.monotonic()
        return max(found, key=created_at, default=None)

    def all(self) -> list[dict[str, Any]]:
        """Return the NodeClaims that there are."""
        return NODE_CLAIMS.list(f"{NODE_POOL_LABEL}={self.pool}")

    def failures(self, since: float) -> list[str]:
        """Return what conditions and Events have said of failures since then, the oldest first."""
        told = [one.text for one in list(self._said) if one.when >= since and one.claim not in self._earlier]
        heard = [text for key, claim, text in _events(self.pool) if key not in self._old and claim not in self._earlier]
        return [*told, *heard]

    def _watch(self) -> None:
        from kubernetes import watch

        arguments = (NODE_CLAIMS.group, NODE_CLAIMS.version, NODE_CLAIMS.plural)
        while not self._stop.is_set():
            try:
                stream = watch.Watch().stream(
                    client.custom().list_cluster_custom_object,
                    *arguments,
                    label_selector=f"{NODE_POOL_LABEL}={self.pool}",
                    timeout_seconds=WATCH_SECONDS,
                )
                for event in stream:
                    self._take(event["object"])
                    if self._stop.is_set():
                        return
            except Exception:  # the API server restarts, or a proxy in between ends the stream: begin again
                time.sleep(RETRY_SECONDS)

    def _take(self, claim: dict[str, Any]) -> None:
        name, launched = claim["metadata"]["name"], condition(claim, "Launched")
        self._seen[name], self._heard = claim, time.monotonic()
        if launched.get("status") == "Unknown" and launched.get("reason", "") not in WAITING:
            text = f"{launched['reason']}: {launched.get('message', '')}"
            if not any((one.claim, one.text) == (name, text) for one in self._said):
                self._said.append(Said(time.time(), name, text))


def _asks_for(claim: dict[str, Any], rung: Rung) -> bool:
    wanted = {one["key"]: one.get("values", []) for one in claim["spec"].get("requirements", [])}
    leaves = "deletionTimestamp" in claim["metadata"]
    # Whether on spot or on demand Karpenter may leave open where a pool allows one of them only.
    capacities = wanted.get(CAPACITY_LABEL, [rung.capacity])
    return not leaves and rung.instance_type in wanted.get(TYPE_LABEL, []) and rung.capacity in capacities


def _events(pool: str) -> list[tuple[tuple[str, int], str, str]]:
    """Return what Karpenter's Events have said of the pool and its NodeClaims: which and how often, of whom, and the text."""
    with api_errors():
        found = client.core().list_event_for_all_namespaces(field_selector="type=Warning").items
    told = []
    for event in found:
        about = event.involved_object
        of_claim = about.kind == "NodeClaim" and about.name.startswith(f"{pool}-")
        if of_claim or (about.kind == "NodePool" and about.name == pool):
            key = (event.metadata.uid, event.count or 1)
            told.append((key, about.name if of_claim else "", f"{event.reason}: {event.message}"))
    return told
