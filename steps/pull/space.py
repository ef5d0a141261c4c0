"""Checks for space on the weights volume before the first byte, and deletes the least recently used models."""

import os
import shutil
import tempfile
from pathlib import Path

from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.runtime.settings import WEIGHTS_BUDGET_SETTING, weights_budget
from steps.common.weights import store
from steps.common.weights.sources.listing import SourceFile
from steps.common.weights.store import Published

MB = 1_000_000


def check_room(folder: Path, name: str, wanted: list[SourceFile], converted: int) -> None:
    """Check that a model fits on the volume and can be written; count what an earlier attempt has fetched.

    Args:
        folder: where it will be published.
        name: name of the model.
        wanted: its files.
        converted: bytes that converting it adds.

    Raises:
        UserError: it does not fit, or cannot be written; the text says what to do.
    """
    volume = folder.parent
    try:
        volume.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=volume):
            pass  # fails on a volume that is mounted read-only, or lacks permissions
    except OSError as error:
        reason = f"is not writable ({error.strerror})"
        raise UserError(f"{volume}: {reason}; mount it read-write, with permissions for user {os.getuid()}") from None
    size = sum(file.bytes for file in wanted) + converted
    try:
        budget = weights_budget()
    except ValueError as error:
        raise UserError(f"the setting {WEIGHTS_BUDGET_SETTING}: {error}") from None
    if budget:
        free_until(budget - size, why=f"{WEIGHTS_BUDGET_SETTING}, less {size / MB:.0f} MB for {name},")
    wanted_blobs = {file.sha256 for file in wanted if store.has_blob(file.sha256, file.bytes)}
    shared = sum(file.bytes for file in wanted if file.sha256 in wanted_blobs)
    need = size - shared - _fetched_bytes(folder)
    if need > shutil.disk_usage(volume).free:
        store.delete_unused_blobs(but=wanted_blobs)  # left by a damaged model
    free = shutil.disk_usage(volume).free
    if need > free:
        raise UserError(
            f"{volume}: {name} needs {need / MB:.0f} MB, and {free / MB:.0f} MB are free; "
            "`fineline weights` lists the models on it"
        )


def free_until(most: int, why: str) -> list[Published]:
    """Delete models, the least recently used first, until the rest takes no more than so many bytes.

    Args:
        most: bytes that may remain.
        why: what requires it, for the error message.

    Returns:
        The deleted models.

    Raises:
        UserError: running runs hold more than that; nothing was deleted.
    """
    models = store.published()
    excess, gone = sum(one.bytes for one in models) - most, []
    for one in models:
        if excess > 0 and not one.holders:
            gone.append(one)
            excess -= one.bytes
    if excess > 0:
        held = [one for one in models if one.holders]
        runs = ", ".join(sorted({run for one in held for run in one.holders}))
        size = sum(one.bytes for one in held)
        raise UserError(
            f"{why} leaves {max(0, most) / MB:.0f} MB for the other models"
            + (
                f", and {size / MB:.0f} MB are held by {runs}; wait for these runs to end, or raise the limit"
                if held
                else "; raise the limit"
            )
        )
    deleted = [one for one in gone if not store.holders(one.folder) and store.discard(one.folder)]
    for one in deleted:
        say(f"deleted {one.uri}: {one.bytes / MB:.0f} MB")
    store.delete_unused_blobs()
    return deleted


def _fetched_bytes(folder: Path) -> int:
    """Return the bytes on disk of an earlier attempt; the holes of sparse files do not count."""
    partial = folder.with_name(folder.name + ".partial")
    return sum(file.stat().st_blocks * 512 for file in partial.glob("*") if file.is_file()) if partial.is_dir() else 0
