"""What a server takes and how long it may: memory, start, last answers. Arithmetic alone."""

import math

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}  # a parameter, by torch's name of what is computed in
SPARE_BYTES = 1 << 30  # Python, torch and the answers under way, besides the weights

# The slowest that a volume is taken to be read: a share of a network file system, as Amazon EFS's baseline of 100 MiB/s
# (https://docs.aws.amazon.com/efs/latest/ug/performance.html). Three times over, since several pods may read at once.
READ_BYTES_A_SECOND = 100 << 20
READ_TIMES = 3
# Until the first byte is read: torch and transformers are imported in 8 s on two free cores, and in 80 s on two that ten
# others compute on.
BEGIN_SECONDS = 180
# In a cluster, besides: a pod is placed, its image pulled.
PLACE_SECONDS = 300

# kube-proxy and load balancers take a moment to send nothing more to a pod that ends.
LEAVE_SECONDS = 5
END_SECONDS = 10  # for the processes themselves
PROBE_SECONDS = 5  # between two looks at a server that starts


def memory_bytes(parameters: int, compute_type: str) -> int:
    """Return the memory that a server of so many parameters takes."""
    return BYTES[compute_type] * parameters + SPARE_BYTES


def ready_seconds(model_bytes: int, wanted: int = 0) -> int:
    """Return the longest that a server may take from its start until it answers.

    Args:
        model_bytes: that it reads.
        wanted: what the recipe says; 0: nothing.
    """
    return wanted or BEGIN_SECONDS + math.ceil(READ_TIMES * model_bytes / READ_BYTES_A_SECOND)


def looks(seconds: int) -> int:
    """Return how many looks in a row at a starting server may fail: Kubernetes' failureThreshold."""
    return max(1, math.ceil(seconds / PROBE_SECONDS))


def progress_deadline_seconds(ready: int) -> int:
    """Return the longest that a Deployment may take, from being asked for until it is available.

    Kubernetes' own 600 s would call every model failed that takes longer to read.
    """
    return ready + PLACE_SECONDS


def grace_seconds(answer: int) -> int:
    """Return the longest that a pod may take to end: it is left, finishes the longest answer, and ends."""
    return LEAVE_SECONDS + answer + END_SECONDS
