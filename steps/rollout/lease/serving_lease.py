"""Takes the right to change what serves: in a cluster by a Lease, on one machine by a lock."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from steps.common.runtime import cluster_settings
from steps.rollout.lease.right import Purpose, ServingLease


@contextmanager
def serving_lease(
    model: str, purpose: Purpose, version: int, fence_on_objects: Callable[[], int]
) -> Iterator[ServingLease]:
    """Hold the right to change what serves under a model's name.

    A rollback takes it from a rollout that is under way. Everything else waits for its turn, a recovery only for a dead holder.

    Args:
        model: name of the model.
        purpose: what the right is wanted for.
        version: the version to serve; 0 for a recovery.
        fence_on_objects: returns the highest fence on the model's objects in a cluster; 0: none has one.

    Raises:
        BusyError: a recovery found another process that holds the right and renews it.
        UserError: the cluster does not answer.
    """
    if cluster_settings.in_cluster():
        from steps.rollout.lease.cluster_lease import cluster_lease

        with cluster_lease(model, purpose, version, fence_on_objects) as in_cluster:
            yield in_cluster
    else:
        from steps.rollout.lease.machine_lease import machine_lease

        with machine_lease(model, purpose, version) as on_machine:
            yield on_machine
