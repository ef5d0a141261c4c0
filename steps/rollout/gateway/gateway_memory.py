"""The memory of a gateway: how much Envoy may take, and what it does before it has taken that.

Envoy holds a request's whole body until it has read the model's name in it, and until the answer begins, in case the server
cannot be reached. So a client that sends bodies and does not finish them takes memory, 4.2 MiB for 4 MiB. Envoy cannot drop
an HTTP/1 request that it has accepted, so the number of connections is what bounds the memory; above `heap_bytes` it accepts
no further request until others have ended.

Reading a body takes far more than holding it: 4 MiB of numbers, `[0,0,0,…]`, take 365 MiB for a third of a second. Each
worker reads one body at a time. That comes on top, since it cannot be interrupted.
"""

import math
from typing import Any

from steps.rollout.gateway.upstream import Rules

Json = dict[str, Any]

MIB = 1 << 20
WORKERS = 2
BASE_BYTES = 96 * MIB  # without requests; measured: 64 MiB
HELD = 1.1  # times the body's size, while it is held; measured: 1.05
READING = 96  # times the body's size, while it is read, for a body of one-digit numbers; measured: 91
BODIES_BYTES = 2048 * MIB  # of all bodies that can be held at once, unless they are so large that few would be
LEAST_CONNECTIONS, MOST_CONNECTIONS = 64, 4096
FREELY_HELD = 3  # a third of them are held freely; beyond that, further requests are refused
LOOK_SECONDS = 0.02
SHRINK, REFUSE = 0.7, 1.0  # shares of `heap_bytes`
LEAST_BYTES_A_SECOND, LEAST_RECEIVE_SECONDS = 200_000, 20


def most_connections(rules: Rules) -> int:
    """Return how many connections a gateway accepts at once. Each may hold one body."""
    return min(MOST_CONNECTIONS, max(LEAST_CONNECTIONS, BODIES_BYTES // rules.request_bytes))


def heap_bytes(rules: Rules) -> int:
    """Return the size of Envoy's heap in bytes at which it accepts no further request."""
    return BASE_BYTES + _held_bytes(rules) // FREELY_HELD


def gateway_memory_bytes(rules: Rules) -> int:
    """Return the memory limit of a gateway's container in bytes."""
    return BASE_BYTES + _held_bytes(rules) + WORKERS * READING * rules.request_bytes


def _held_bytes(rules: Rules) -> int:
    return int(HELD * most_connections(rules) * rules.request_bytes)


def receive_seconds(rules: Rules) -> int:
    """Return how long a client may take to send a request: what a slow connection needs for the largest."""
    return max(LEAST_RECEIVE_SECONDS, math.ceil(rules.request_bytes / LEAST_BYTES_A_SECOND))


def overload_manager(rules: Rules) -> Json:
    """Return the configuration of Envoy's overload manager."""
    heap, connections = (
        "envoy.resource_monitors.fixed_heap",
        "envoy.resource_monitors.global_downstream_max_connections",
    )
    monitors = [
        _monitor(heap, "fixed_heap.v3.FixedHeapConfig", {"max_heap_size_bytes": heap_bytes(rules)}),
        _monitor(
            connections,
            "downstream_connections.v3.DownstreamConnectionsConfig",
            {"max_active_downstream_connections": most_connections(rules)},
        ),
    ]
    actions = {"shrink_heap": SHRINK, "stop_accepting_requests": REFUSE}
    return {
        "refresh_interval": f"{LOOK_SECONDS}s",
        "resource_monitors": monitors,
        "actions": [
            {"name": f"envoy.overload_actions.{name}", "triggers": [{"name": heap, "threshold": {"value": share}}]}
            for name, share in actions.items()
        ],
    }


def _monitor(name: str, kind: str, config: Json) -> Json:
    return {
        "name": name,
        "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.resource_monitors.{kind}", **config},
    }
