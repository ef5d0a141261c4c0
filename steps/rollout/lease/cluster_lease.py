"""The right in a cluster: a Lease for each model."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from steps.common.kubernetes import lease as leases
from steps.common.kubernetes.lease import Lease, LeaseLostError, process_name
from steps.common.runtime import cluster_settings
from steps.common.runtime.waiting import WaitingLine
from steps.rollout.lease.interruption import interruption
from steps.rollout.lease.right import PURPOSE, VERSION, BusyError, Purpose, lost


def lease_name(model: str) -> str:
    """Return the name of a model's Lease."""
    return f"fineline-serving-{model}"


class ClusterLease:
    """The Lease, held."""

    def __init__(self, lease: Lease, model: str) -> None:
        self._lease, self._model = lease, model
        self.fence = lease.fence
        self.taken_from = int(lease.taken_from.get(VERSION, 0))

    def check(self) -> None:
        """Read the Lease, and raise if another process holds it.

        Raises:
            TakenOverError: a rollback does.
            InterruptedStepError: another rollout does.
        """
        try:
            self._lease.confirm()
        except LeaseLostError as error:
            raise lost(self._model, error.notes) from None


@contextmanager
def cluster_lease(
    model: str, purpose: Purpose, version: int, fence_on_objects: Callable[[], int]
) -> Iterator[ClusterLease]:
    """Hold a model's Lease; see `serving_lease`."""
    line, started = WaitingLine(), time.monotonic()

    def waiting() -> None:
        # By then a holder that is dead would have expired.
        if purpose is Purpose.RECOVERY and time.monotonic() - started > leases.SECONDS + 2 * leases.RENEW_SECONDS:
            raise BusyError
        line.report(f"another rollout of {model} to end")

    def takes_over(notes: Mapping[str, str]) -> bool:
        return purpose is Purpose.ROLLBACK and notes.get(PURPOSE) != Purpose.ROLLBACK

    wanted = Lease(
        lease_name(model),
        f"{process_name()}-{secrets.token_hex(3)}",
        cluster_settings.namespace(),
        notes={PURPOSE: purpose, VERSION: str(version)},
        takes_over=takes_over,
        lowest_fence=fence_on_objects() + 1,
        kept=True,
    )
    with (
        interruption(lambda: ClusterLease(wanted, model).check()) as interrupt,
        wanted.held(waiting, on_loss=interrupt) as lease,
    ):
        yield ClusterLease(lease, model)
