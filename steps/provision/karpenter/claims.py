"""Watches what Karpenter asks its cloud for, from before the first request.

A NodeClaim for which there was no capacity is deleted within seconds, and only its Event says why; on Azure the reason
stands in its conditions, as briefly. So conditions are taken down as they change, and Events are read besides.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from steps.common import kubernetes
from steps.common.gpu_nodes import TYPE_LABEL
from steps.common.kinds import CLAIMS, POOL_LABEL, condition, created

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


@dataclass
class Claims:
    """The NodeClaims of one pool, and what was said of them."""

    pool: str
    said: list[tuple[float, str]] = field(default_factory=list)  # (when, reason and message)
    _old: set[tuple[str, int]] = field(default_factory=set)  # Events of earlier attempts
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Claims":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def begin(self) -> None:
        """Begin a new attempt: what Events say up to now is not of it."""
        self._old = {key for key, _ in _events(self.pool)}

    def newest(self, instance_type: str) -> dict[str, Any] | None:
        """Return the youngest NodeClaim for that instance type, one that an earlier process has caused too."""
        found = [one for one in self.all() if _asks_for(one, instance_type)]
        return max(found, key=created, default=None)

    def all(self) -> list[dict[str, Any]]:
        """Return the NodeClaims that there are."""
        return CLAIMS.list(f"{POOL_LABEL}={self.pool}")

    def failures(self, since: float) -> list[str]:
        """Return what conditions and Events have said of failures since then, the oldest first."""
        told = [text for when, text in self.said if when >= since]
        return [*told, *(text for key, text in _events(self.pool) if key not in self._old)]

    def _watch(self) -> None:
        from kubernetes import watch

        arguments = (CLAIMS.group, CLAIMS.version, CLAIMS.plural)
        while not self._stop.is_set():
            try:
                stream = watch.Watch().stream(
                    kubernetes.custom().list_cluster_custom_object,
                    *arguments,
                    label_selector=f"{POOL_LABEL}={self.pool}",
                    timeout_seconds=WATCH_SECONDS,
                )
                for event in stream:
                    self._take(event["object"])
                    if self._stop.is_set():
                        return
            except Exception:  # the API server restarts, or a proxy in between ends the stream: begin again
                time.sleep(RETRY_SECONDS)

    def _take(self, claim: dict[str, Any]) -> None:
        launched = condition(claim, "Launched")
        if launched.get("status") == "Unknown" and launched.get("reason", "") not in WAITING:
            text = f"{launched['reason']}: {launched.get('message', '')}"
            if not any(known == text for _, known in self.said):
                self.said.append((time.time(), text))


def _asks_for(claim: dict[str, Any], instance_type: str) -> bool:
    wanted = [one for one in claim["spec"].get("requirements", []) if one["key"] == TYPE_LABEL]
    leaves = "deletionTimestamp" in claim["metadata"]
    return not leaves and any(instance_type in one.get("values", []) for one in wanted)


def _events(pool: str) -> list[tuple[tuple[str, int], str]]:
    """Return what Karpenter's Events have said of the pool and its NodeClaims: which, how often, and the text."""
    with kubernetes.in_one_line():
        found = kubernetes.core().list_event_for_all_namespaces(field_selector="type=Warning").items
    told = []
    for event in found:
        about = event.involved_object
        ours = (about.kind == "NodeClaim" and about.name.startswith(f"{pool}-")) or (
            about.kind == "NodePool" and about.name == pool
        )
        if ours:
            told.append(((event.metadata.uid, event.count or 1), f"{event.reason}: {event.message}"))
    return told
