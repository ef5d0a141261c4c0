"""Before a pod's gateway is ended: its clients are sent away, and what they still wait for is answered.

    python -m steps.rollout.gateway.drain SOCKET LEAVE_SECONDS ANSWER_SECONDS

Kubernetes takes a pod that ends out of its Services and tells it to end at the same moment; requests come for as long as it
takes every node to hear of it. Envoy, told to end, ends at once.
"""

import sys
import time
from pathlib import Path

from steps.rollout.gateway.admin import EnvoyAdmin

CLOSED_SECONDS = 0.5  # until a connection that was just taken is counted as a request
ACTIVE_REQUESTS = "http.gateway.downstream_rq_active"


def drain(admin: EnvoyAdmin, leave_seconds: float, answer_seconds: float) -> None:
    """Wait until nobody comes any more, and everybody who came has their answer.

    Args:
        admin: of the gateway.
        leave_seconds: how long new requests may still come.
        answer_seconds: the longest answer.
    """
    admin.fail_health_check()
    time.sleep(leave_seconds)
    # Where no other pod is left, as in place, a Service sends requests here to the last: let them find nobody, and none be
    # broken off.
    admin.drain_listeners()
    time.sleep(min(leave_seconds, CLOSED_SECONDS))
    end = time.monotonic() + answer_seconds
    while admin.active_requests(ACTIVE_REQUESTS) and time.monotonic() < end:
        time.sleep(0.5)


if __name__ == "__main__":
    drain(EnvoyAdmin(Path(sys.argv[1])), float(sys.argv[2]), float(sys.argv[3]))
