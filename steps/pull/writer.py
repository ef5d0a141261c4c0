"""One process at a time fetches a model: by a Lease in a cluster, by a lock file on one machine.

A lock file is the kernel's, and gone with its process; on a volume that several nodes mount nobody is sure to keep to it.
"""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from steps.common.runtime import cluster_settings
from steps.common.storage.files import exclusive_lock


class Writer(Protocol):
    """The right to write."""

    def check(self) -> None:
        """Raise when another process has it meanwhile."""


class _Lock:
    def check(self) -> None:
        """Do nothing: the kernel gives a lock to nobody else."""


@contextmanager
def only_writer(folder: Path, waiting: Callable[[], None]) -> Iterator[Writer]:
    """Hold the right to write a folder.

    Args:
        folder: which will be published.
        waiting: called about once a second while another process has it.

    Raises:
        InterruptedStepError: by `check`: this process was not heard of for so long that another has taken over.
    """
    if not cluster_settings.serve_image():
        with exclusive_lock(folder, waiting):
            yield _Lock()
        return
    from steps.pull.lease import Lease

    with Lease(f"fineline-pull-{folder.parent.name}-{folder.name}", who(), cluster_settings.namespace()).held(
        waiting
    ) as lease:
        yield lease


def who() -> str:
    """Return the name of this process, unlike any other's: the pod's or machine's, and its number there."""
    return f"{platform.node()}-{os.getpid()}"
