"""Ensures that one process at a time fetches a model: with a Lease in a cluster, with a lock file on one machine.

The kernel releases a lock file when its process ends. On a volume that several nodes mount, lock files are not reliable.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from steps.common.runtime import cluster_settings
from steps.common.storage.files import exclusive_lock


class Writer(Protocol):
    """The right to write a folder."""

    def check(self) -> None:
        """Raise if another process has taken over."""


class _Lock:
    def check(self) -> None:
        """Do nothing: the kernel does not give the lock to another process."""


@contextmanager
def only_writer(folder: Path, waiting: Callable[[], None]) -> Iterator[Writer]:
    """Hold the right to write a folder.

    Args:
        folder: where the model will be published.
        waiting: called about once a second while another process holds the right.

    Raises:
        InterruptedStepError: by `check`: the Lease was not renewed in time, so another process may have taken over.
    """
    if not cluster_settings.in_cluster():
        with exclusive_lock(folder, waiting):
            yield _Lock()
        return
    from steps.common.kubernetes.lease import Lease, process_name

    with Lease(f"fineline-pull-{folder.parent.name}-{folder.name}", process_name(), cluster_settings.namespace()).held(
        waiting
    ) as lease:
        yield lease
