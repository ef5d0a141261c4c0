"""What a server needs: memory, and time to start and to stop. Arithmetic only."""

import math

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}  # of a parameter, by torch's name of the type
SPARE_BYTES = 1 << 30  # besides the weights: Python, torch, the requests in progress

# Before the first weight is read: importing torch and transformers takes 8 s on two idle cores, and 80 s on two cores
# shared with ten other processes.
BEGIN_SECONDS = 90.0
# Bounds on the measured read speed: the measurement may have met a busy moment, or a burst such as Amazon EFS allows
# (https://docs.aws.amazon.com/efs/latest/ug/performance.html).
READ_AT_LEAST, READ_AT_MOST = 50e6, 200e6
MARGIN = 2.0
# In a cluster, in addition: scheduling the pod and pulling its image.
PLACE_SECONDS = 300

# kube-proxy and load balancers take a moment to stop sending requests to a pod that terminates.
LEAVE_SECONDS = 5
END_SECONDS = 10  # for the processes to end
PROBE_SECONDS = 5  # between two startup probes


def memory_bytes(parameters: int, compute_type: str) -> int:
    """Return the memory in bytes that a server of a model with so many parameters needs."""
    return BYTES[compute_type] * parameters + SPARE_BYTES


def ready_seconds(
    weight_bytes: float, read_bytes_a_second: float, begins: float = BEGIN_SECONDS, wanted: int = 0
) -> int:
    """Return the time limit for a server's start: twice the expected time.

    Args:
        weight_bytes: size of the weights that it reads.
        read_bytes_a_second: measured read speed of the volume.
        begins: seconds that it needs besides.
        wanted: the recipe's limit; 0: none.
    """
    expected = begins + weight_bytes / min(max(read_bytes_a_second, READ_AT_LEAST), READ_AT_MOST)
    return wanted or math.ceil(MARGIN * expected)


def failure_threshold(seconds: int) -> int:
    """Return how many startup probes may fail in a row: Kubernetes' failureThreshold."""
    return max(1, math.ceil(seconds / PROBE_SECONDS))


def progress_deadline_seconds(ready: int) -> int:
    """Return a Deployment's progressDeadlineSeconds.

    With Kubernetes' default of 600 s every model that takes longer to read would count as failed.
    """
    return ready + PLACE_SECONDS


def grace_seconds(answer: int, ends: int = END_SECONDS) -> int:
    """Return a pod's terminationGracePeriodSeconds: it stops getting requests, finishes the longest answer, and ends.

    Args:
        answer: seconds of the longest answer.
        ends: seconds that its processes take to end.
    """
    return LEAVE_SECONDS + answer + ends
