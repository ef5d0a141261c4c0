"""Waits to buy until the weights are nearly there: a GPU that waits for a download is paid for all the same."""

import time
from pathlib import Path

from presets.ladder import PROVISION_MINUTES
from steps.common.handover.resolved import ResolvedModel
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.weights import fetch_progress, store

POLL_SECONDS = 2.0
FIRST_LOOK_SECONDS = 15.0  # of a download, before its speed is believed
STANDSTILL_SECONDS = 2400.0  # without a byte more, longer than pull itself has patience: then nothing is bought
BEGIN_SECONDS = (
    3600.0  # until somebody fetches, or fetches again: pull's pod may wait for a node, and for an image of 7 GB
)
SILENT_SECONDS = 60.0  # whoever fetches says so more often


def wait_until_near(model: ResolvedModel) -> None:
    """Return when what is left of the download takes no longer than a node does to come.

    Raises:
        UserError: nothing comes any more.
    """
    folder = volumes.published_model(model.digest)
    started, first = time.monotonic(), _bytes(folder)
    moved, last = started, first
    told = False
    while not store.intact(folder):
        time.sleep(POLL_SECONDS)
        now, there = time.monotonic(), _bytes(folder)
        if there and not last:
            started, first = now, there  # its speed counts from its first byte
        if there != last:
            moved, last = now, there
        at_work = there and fetch_progress.silent_for(folder) < SILENT_SECONDS
        longest = STANDSTILL_SECONDS if at_work else BEGIN_SECONDS
        if now - moved > longest:
            raise UserError(
                f"the weights of {model.name} have not come any further for {longest / 60:.0f} min, so no node is "
                "asked for; the step pull says why"
            )
        rate = (there - first) / max(now - started, POLL_SECONDS)
        left = (model.bytes - there) / rate / 60 if rate > 0 and now - started > FIRST_LOOK_SECONDS else float("inf")
        if left <= PROVISION_MINUTES or model.bytes <= there:
            return
        if not told and left < float("inf"):
            say(f"the weights take {left:.0f} min more; a node is asked for when {PROVISION_MINUTES:g} are left")
            told = True


def _bytes(folder: Path) -> int:
    """Bytes that have come so far, as pull tells."""
    told = fetch_progress.read(folder)
    return told.done if told else 0
