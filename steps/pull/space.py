"""Room on the weights volume: looked for before the first byte, made by deleting what was not used for longest."""

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
    """Refuse what will not fit, or may not be written; what an earlier attempt has fetched needs no room.

    Args:
        folder: which will be published.
        name: of the model.
        wanted: its files.
        converted: bytes besides them.

    Raises:
        UserError: with the numbers, and what to do.
    """
    volume = folder.parent
    try:
        volume.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=volume):
            pass  # a volume that is mounted for reading, or whose rights do not do, says so here
    except OSError as error:
        reason = f"may not be written ({error.strerror})"
        raise UserError(f"{volume}: {reason}; mount it for writing, with rights for user {os.getuid()}") from None
    size = sum(file.bytes for file in wanted) + converted
    try:
        budget = weights_budget()
    except ValueError as error:
        raise UserError(f"the setting {WEIGHTS_BUDGET_SETTING}: {error}") from None
    if budget:
        free_until(budget - size, why=f"{WEIGHTS_BUDGET_SETTING} and {name}, which takes {size / MB:.0f} MB")
    wanted_blobs = {file.sha256 for file in wanted if store.has_blob(file.sha256, file.bytes)}
    shared = sum(file.bytes for file in wanted if file.sha256 in wanted_blobs)
    need = size - shared - _there(folder)
    if need > shutil.disk_usage(volume).free:
        store.delete_unused_blobs(but=wanted_blobs)  # what a damaged model has left
    free = shutil.disk_usage(volume).free
    if need > free:
        raise UserError(
            f"{volume}: needs {need / MB:.0f} MB for {name} and has {free / MB:.0f} MB free; "
            "`fineline weights` lists what is there"
        )


def free_until(most: int, why: str) -> list[Published]:
    """Delete models until what is left takes no more than so many bytes; that which was not used for longest goes first.

    Args:
        most: bytes that may stay.
        why: what asks for it, for the error.

    Returns:
        What was deleted.

    Raises:
        UserError: what running runs hold is more than that; nothing was deleted.
    """
    there = store.published()
    excess, gone = sum(one.bytes for one in there) - most, []
    for one in there:
        if excess > 0 and not one.holders:
            gone.append(one)
            excess -= one.bytes
    if excess > 0:
        held = [one for one in there if one.holders]
        runs = ", ".join(sorted({run for one in held for run in one.holders}))
        size = sum(one.bytes for one in held)
        raise UserError(
            f"{why}: {max(0, most) / MB:.0f} MB are left for the models that are there"
            + (f", and {size / MB:.0f} MB of them are held by {runs}; wait for these" if held else "; raise it")
        )
    deleted = [one for one in gone if not store.holders(one.folder) and store.discard(one.folder)]
    for one in deleted:
        say(f"{one.uri} is deleted: {one.bytes / MB:.0f} MB")
    store.delete_unused_blobs()
    return deleted


def _there(folder: Path) -> int:
    """Bytes that an earlier attempt has written, as the disk has them: what is still to come takes no room yet."""
    partial = folder.with_name(folder.name + ".partial")
    return sum(file.stat().st_blocks * 512 for file in partial.glob("*") if file.is_file()) if partial.is_dir() else 0
