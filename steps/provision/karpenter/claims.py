"""Watches Karpenter's NodeClaims from before the first one.

A NodeClaim for which the cloud has no capacity is deleted within seconds, and only its Event says why; on Azure its conditions
do, just as briefly. So conditions are recorded as they change, and Events are read too.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from steps.common.handover.resolved import Rung
from steps.common.kubernetes import client
from steps.common.kubernetes.api_errors import api_errors
from steps.common.kubernetes.cluster_objects import NODE_CLAIMS, NODE_POOL_LABEL, created_at
from steps.common.kubernetes.resource import condition
from steps.common.nodes.gpu_nodes import TYPE_LABEL
from steps.common.nodes.node_request import CAPACITY_LABEL

# Kubernetes keeps Events about objects of the whole cluster here, and no role of ours reads those of other namespaces.
OF_THE_WHOLE_CLUSTER = "default"
WATCH_SECONDS = 60
RETRY_SECONDS = 1.0
# Reasons of a condition while nothing is wrong yet.
WAITING = (
    "",
    "AwaitingReconciliation",
    "NodeNotFound",
    "NodeNotReady",
    "StartupTaintsExist",
    "KnownEphemeralTaintsExist",
)


@dataclass(frozen=True)
class FailureMessage:
    """A message about the pool, or about one of its NodeClaims."""

    when: float
    claim: str  # its name; empty: about the pool
    text: str  # reason and message


@dataclass
class Claims:
    """The NodeClaims of one pool, and the messages about them."""

    pool: str
    _messages: list[FailureMessage] = field(default_factory=list)
    _seen: dict[str, dict[str, Any]] = field(default_factory=dict)  # every NodeClaim so far, in its last state
    _earlier: set[str] = field(default_factory=set)  # names of the NodeClaims of earlier attempts
    _old: set[tuple[str, int]] = field(default_factory=set)  # Events of earlier attempts
    _last_seen: float = field(default_factory=time.monotonic)  # when there last was one
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Claims":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def begin(self, rung: Rung) -> None:
        """Begin a new attempt, and ignore all messages about earlier NodeClaims from now on.

        A NodeClaim for this rung that is not being deleted belongs to the attempt: an earlier process of the step caused it.
        """
        for claim in self.all():
            self._seen[claim["metadata"]["name"]] = claim
        self._earlier = {name for name, claim in list(self._seen.items()) if not _is_for(claim, rung)}
        self._old = {key for key, _, _ in _events(self.pool)}

    def strays(self, rung: Rung) -> list[dict[str, Any]]:
        """Return the NodeClaims of other rungs: late or left over, they would fill the pool and be paid for."""
        return [one for one in self.all() if not _is_for(one, rung) and "deletionTimestamp" not in one["metadata"]]

    @property
    def quiet_for(self) -> float:
        """For how many seconds there has been no NodeClaim."""
        return time.monotonic() - self._last_seen

    def newest(self, rung: Rung) -> dict[str, Any] | None:
        """Return the newest NodeClaim for a rung, including one that an earlier process of the step caused."""
        found = [one for one in self.all() if _is_for(one, rung)]
        if found:
            self._last_seen = time.monotonic()
        return max(found, key=created_at, default=None)

    def all(self) -> list[dict[str, Any]]:
        """Return the existing NodeClaims."""
        return NODE_CLAIMS.list(f"{NODE_POOL_LABEL}={self.pool}")

    def failures(self, since: float) -> list[str]:
        """Return the failures that conditions and Events have reported since then, the oldest first."""
        conditions = [one.text for one in list(self._messages) if one.when >= since and one.claim not in self._earlier]
        events = [
            text for key, claim, text in _events(self.pool) if key not in self._old and claim not in self._earlier
        ]
        return [*conditions, *events]

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
                    self._record(event["object"])
                    if self._stop.is_set():
                        return
            except Exception:  # the API server restarted, or a proxy ended the stream: watch again
                time.sleep(RETRY_SECONDS)

    def _record(self, claim: dict[str, Any]) -> None:
        name, launched = claim["metadata"]["name"], condition(claim, "Launched")
        self._seen[name], self._last_seen = claim, time.monotonic()
        if launched.get("status") == "Unknown" and launched.get("reason", "") not in WAITING:
            text = f"{launched['reason']}: {launched.get('message', '')}"
            if not any((one.claim, one.text) == (name, text) for one in self._messages):
                self._messages.append(FailureMessage(time.time(), name, text))


def _is_for(claim: dict[str, Any], rung: Rung) -> bool:
    wanted = {one["key"]: one.get("values", []) for one in claim["spec"].get("requirements", [])}
    terminating = "deletionTimestamp" in claim["metadata"]
    # Karpenter may omit the capacity type if the pool allows only one.
    capacities = wanted.get(CAPACITY_LABEL, [rung.capacity])
    return not terminating and rung.instance_type in wanted.get(TYPE_LABEL, []) and rung.capacity in capacities


def _events(pool: str) -> list[tuple[tuple[str, int], str, str]]:
    """Return Karpenter's Events about the pool and its NodeClaims: identity and count, the NodeClaim's name, and the text."""
    with api_errors():
        found = client.core().list_namespaced_event(OF_THE_WHOLE_CLUSTER, field_selector="type=Warning").items
    events = []
    for event in found:
        about = event.involved_object
        of_claim = about.kind == "NodeClaim" and about.name.startswith(f"{pool}-")
        if of_claim or (about.kind == "NodePool" and about.name == pool):
            key = (event.metadata.uid, event.count or 1)
            events.append((key, about.name if of_claim else "", f"{event.reason}: {event.message}"))
    return events
