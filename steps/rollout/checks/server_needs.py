"""What a server takes and how long it may: memory, start, last answers. Arithmetic alone."""

import math

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}  # a parameter, by torch's name of what is computed in
SPARE_BYTES = 1 << 30  # Python, torch and the answers under way, besides the weights

# Until the first byte is read: torch and transformers are imported in 8 s on two free cores, and in 80 s on two that ten
# others compute on.
BEGIN_SECONDS = 90.0
# Bytes a second of a volume, whatever was measured: that may have been another's busy moment, or a share's burst, as Amazon
# EFS has them (https://docs.aws.amazon.com/efs/latest/ug/performance.html).
READ_AT_LEAST, READ_AT_MOST = 50e6, 200e6
MARGIN = 2.0
# In a cluster, besides: a pod is placed, its image pulled.
PLACE_SECONDS = 300

# kube-proxy and load balancers take a moment to send nothing more to a pod that ends.
LEAVE_SECONDS = 5
END_SECONDS = 10  # for the processes themselves
PROBE_SECONDS = 5  # between two looks at a server that starts


def memory_bytes(parameters: int, compute_type: str) -> int:
    """Return the memory that a server of so many parameters takes."""
    return BYTES[compute_type] * parameters + SPARE_BYTES


def ready_seconds(
    weight_bytes: float, read_bytes_a_second: float, begins: float = BEGIN_SECONDS, wanted: int = 0
) -> int:
    """Return the longest that a server may take from its start until it answers: twice what is expected of it.

    Args:
        weight_bytes: that it reads.
        read_bytes_a_second: of the volume, as measured.
        begins: seconds that it takes besides.
        wanted: what the recipe says; 0: nothing.
    """
    expected = begins + weight_bytes / min(max(read_bytes_a_second, READ_AT_LEAST), READ_AT_MOST)
    return wanted or math.ceil(MARGIN * expected)


def failure_threshold(seconds: int) -> int:
    """Return how many looks in a row at a starting server may fail: Kubernetes' failureThreshold."""
    return max(1, math.ceil(seconds / PROBE_SECONDS))


def progress_deadline_seconds(ready: int) -> int:
    """Return the longest that a Deployment may take, from being asked for until it is available.

    Kubernetes' own 600 s would call every model failed that takes longer to read.
    """
    return ready + PLACE_SECONDS


def grace_seconds(answer: int, ends: int = END_SECONDS) -> int:
    """Return the longest that a pod may take to end: it is left, finishes the longest answer, and ends.

    Args:
        answer: seconds of the longest answer.
        ends: seconds that its processes take to end.
    """
    return LEAVE_SECONDS + answer + ends
