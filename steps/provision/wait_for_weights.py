"""Delays buying a node until the weights are nearly fetched: a GPU that waits for a download is paid for too."""

import time
from pathlib import Path

from presets.ladder import PROVISION_MINUTES
from steps.common.handover.resolved import ResolvedModel
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.weights import fetch_progress, store

POLL_SECONDS = 2.0
SPEED_SECONDS = 15.0  # of a download, before its speed is trusted
# Without a new byte, longer than pull itself waits; then nothing is bought.
STANDSTILL_SECONDS = 2400.0
# Until a process fetches, or fetches again: pull's pod may wait for a node, and for an image of 7 GB.
BEGIN_SECONDS = 3600.0
SILENT_SECONDS = 60.0  # a process that fetches reports more often


def wait_until_nearly_fetched(model: ResolvedModel) -> None:
    """Return when the rest of the download takes no longer than it takes to get a node.

    Raises:
        UserError: the download has stopped.
    """
    folder = volumes.published_model(model.digest)
    started, first = time.monotonic(), _fetched_bytes(folder)
    moved, last = started, first
    reported = False
    while not store.intact(folder):
        time.sleep(POLL_SECONDS)
        now, fetched = time.monotonic(), _fetched_bytes(folder)
        if fetched and not last:
            started, first = now, fetched  # its speed counts from its first byte
        if fetched != last:
            moved, last = now, fetched
        active = fetched and fetch_progress.silent_for(folder) < SILENT_SECONDS
        longest = STANDSTILL_SECONDS if active else BEGIN_SECONDS
        if now - moved > longest:
            raise UserError(
                f"the download of {model.name}'s weights has made no progress for {longest / 60:.0f} min, so no node is "
                "requested; see the log of the step pull"
            )
        rate = (fetched - first) / max(now - started, POLL_SECONDS)
        left = (model.bytes - fetched) / rate / 60 if rate > 0 and now - started > SPEED_SECONDS else float("inf")
        if left <= PROVISION_MINUTES or model.bytes <= fetched:
            return
        if not reported and left < float("inf"):
            say(f"the weights take {left:.0f} min more; a node is requested when {PROVISION_MINUTES:g} min are left")
            reported = True


def _fetched_bytes(folder: Path) -> int:
    """Return how many bytes have been fetched, as pull reports."""
    progress = fetch_progress.read(folder)
    return progress.done if progress else 0
