"""Where the pods that compute a run go, and which share of their node they take."""

from steps.common.handover.resolved import Rung
from steps.common.nodes.pod_placement import Placement

# Of a node that the run has bought. The rest is for the system, the kubelet, and DaemonSets: GKE reserves up to 17 % of 16 GiB,
# and every cloud less of a larger node.
SHARE = 0.75
CPU_MILLIS_A_GPU = 1000  # on a node that others use too
LIMIT = 2  # times the memory that is predicted, where the node's is not known


def on_a_bought_node(
    rung: Rung, label: str, value: str, taint: str = "", others: list[Rung] | None = None
) -> Placement:
    """Return the placement on a node that no other run uses: its pods take the node.

    Args:
        rung: the node's.
        label: of the nodes of this run.
        value: of that label.
        taint: value of the run's taint; empty: there is none.
        others: the rungs that may replace the node; a pod fits on each of them.
    """
    rungs = [rung, *(others or [])]
    wanted = Placement(node_label=label, node_value=value, run_taint=taint, gpus=rung.gpus)
    found = {
        "cpu_millis": max(CPU_MILLIS_A_GPU, int(SHARE * 1000 * min(one.vcpus for one in rungs))),
        "memory_bytes": max(rung.host_bytes, int(SHARE * min(one.node_bytes for one in rungs))),
    }
    return wanted.model_copy(update=found | _limits(found["memory_bytes"], rungs))


def on_a_shared_node(rung: Rung, instance_type: str = "") -> Placement:
    """Return the placement on a node that exists already: its pods take what they need.

    Args:
        rung: the node's.
        instance_type: of the nodes; empty: any node.
    """
    wanted = Placement(instance_type=instance_type, gpus=rung.gpus)
    memory = rung.host_bytes or wanted.memory_bytes
    cpus = {"cpu_millis": CPU_MILLIS_A_GPU * rung.gpus} if rung.gpus else {}
    return wanted.model_copy(update={**cpus, "memory_bytes": memory} | _limits(memory, [rung]))


def _limits(memory: int, rungs: list[Rung]) -> dict[str, int]:
    largest = max(one.node_bytes for one in rungs)
    found = {"memory_limit_bytes": max(memory, largest) if largest else LIMIT * memory}
    if vcpus := max(one.vcpus for one in rungs):
        found["cpu_limit_millis"] = 1000 * vcpus
    return found


def replacements(current: Rung, ladder: list[Rung]) -> list[Rung]:
    """Return the rungs on which a run that is planned for `current` can continue: as many GPUs, each with as much memory.

    A NodePool allows each of its instance types with each of its capacity types. Combinations that are not on the ladder may
    exceed the run's limits, so only types are returned that share the same capacity types.
    """
    fit = [rung for rung in ladder if rung.gpus == current.gpus and rung.available_bytes >= current.available_bytes]
    capacities: dict[str, set[str]] = {}
    for rung in fit:
        capacities.setdefault(rung.instance_type, set()).add(rung.capacity)
    if capacities[current.instance_type] == set().union(*capacities.values()):
        return [rung for rung in fit if capacities[rung.instance_type] == capacities[current.instance_type]]
    return [rung for rung in fit if rung.capacity == current.capacity]
