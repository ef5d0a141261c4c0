"""The preStop hook of a gateway: sends its clients elsewhere, and waits until their last requests are answered.

    python -m steps.rollout.drain SOCKET LEAVE_SECONDS ANSWER_SECONDS

Kubernetes removes a terminating pod from its Services and runs this hook at the same time, so requests still arrive until
every node has been updated. Envoy itself ends at once when it gets SIGTERM.

The name of the command stays as it is: Deployments of earlier releases execute it.
"""

import sys
import time
from pathlib import Path

from steps.rollout.gateway.admin import EnvoyAdmin

CLOSED_SECONDS = 0.5  # until a connection that was just accepted counts as a request
ACTIVE_REQUESTS = "http.gateway.downstream_rq_active"


def drain(admin: EnvoyAdmin, leave_seconds: float, answer_seconds: float) -> None:
    """Wait until no new requests arrive, and all that have arrived are answered.

    Args:
        admin: admin interface of the gateway.
        leave_seconds: how long new requests may still arrive.
        answer_seconds: time limit of an answer.
    """
    admin.fail_health_check()
    time.sleep(leave_seconds)
    # Without another pod, as in a rollout in place, the Service sends requests here to the end. Refuse their connections:
    # that is better than to break off an answer.
    admin.drain_listeners()
    time.sleep(min(leave_seconds, CLOSED_SECONDS))
    end = time.monotonic() + answer_seconds
    while admin.active_requests(ACTIVE_REQUESTS) and time.monotonic() < end:
        time.sleep(0.5)


if __name__ == "__main__":
    drain(EnvoyAdmin(Path(sys.argv[1])), float(sys.argv[2]), float(sys.argv[3]))
