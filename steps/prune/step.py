"""The prune step: frees the runs volume of what nothing needs any more and what can be made again. Imports no torch.

It deletes merged models, tunings, prepared rows, vLLM's adapters, and versions restored from the registry. Each was not used
for a while, and nothing names it: no Deployment or server, no kept version, no run that is under way or can be retried. What
cannot be made again stays: data that was sent, exports, runs' reports, the registry.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.runtime import settings
from steps.common.runtime.errors import UserError
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.retention import LEAVING, delete_whole, freed_bytes, last_used, lock_if_free
from steps.common.weights import store
from steps.prune.named import Named, find_named

PLACES = ("merged/*", "tunings/*", "prepared/*", "adapters/*", "restored/*/*")
TEMPORARY = ("data/.fetching-*", "data/.packing-*", "data/.incoming-*", ".backup-*")
DAY, GB = 24 * 3600, 1_000_000_000
MOST_LINES = 500  # of the output, which Argo stores


class PruneInput(Input):
    """What to keep. An empty value leaves the choice to the settings."""

    keep: Annotated[str, Parameter(description="How many of each model's latest versions to keep")] = ""
    days: Annotated[str, Parameter(description="Days for which what was used is kept in any case")] = ""
    dry_run: Annotated[Literal["true", "false"], Parameter(description="Only say what would be deleted")] = "false"


class PruneOutput(Output):
    """What was freed, line by line, and the total."""

    freed: str


@dataclass(frozen=True)
class Unneeded:
    """A folder that may go."""

    folder: Path
    bytes: int
    days: float  # since its last use

    def in_words(self) -> str:
        """Return it as one line."""
        place = self.folder.relative_to(volumes.runs())
        return f"{self.bytes / GB:.2f} GB: {place}, last used {math.floor(self.days)} days ago"


@step
def prune(input: PruneInput) -> PruneOutput:
    """Delete what nothing needs, or with `dry_run` say what that is.

    Raises:
        UserError: a parameter or a setting is no number, the cluster refuses to tell what is in use, in which case nothing is
            deleted, or a folder cannot be deleted.
        UnreachableError: the registry does not answer; nothing is deleted.
    """
    latest = _number("keep", input.keep, settings.PRUNE_KEEP_SETTING, settings.prune_keep)
    days = _number("days", input.days, settings.PRUNE_DAYS_SETTING, settings.prune_days)
    now, dry = time.time(), input.dry_run == "true"
    before = now - days * DAY
    named = find_named(latest, before)
    if not dry:
        _hold_served_bases(named)
    lines: list[str] = []
    failed: list[str] = []
    freed = 0
    for one in _unneeded(named, min(before, named.runs.since), now):
        try:
            if not dry and not _delete(one.folder, min(before, named.runs.since)):
                continue
        except OSError as error:
            failed.append(f"{one.folder}: cannot be deleted: {error.strerror}")
            continue
        freed += one.bytes
        lines.append(f"{'would free' if dry else 'freed'} {one.in_words()}")
        say(lines[-1])
    total = f"{'would free' if dry else 'freed'} {freed / GB:.2f} GB in all: folders: {len(lines)}"
    say(total)
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise UserError(f"{failed[0]}{more}")
    shown = lines[:MOST_LINES] + ([f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else [])
    return PruneOutput(freed="\n".join([*shown, total]))


def _unneeded(named: Named, before: float, now: float) -> Iterator[Unneeded]:
    """Yield what may go: nothing names it, no process holds it, and it was last used before that time."""
    root = volumes.runs()
    for left in sorted(path for place in PLACES for path in root.glob(f"{Path(place).parent}/.*{LEAVING}")):
        yield Unneeded(left, freed_bytes(left), (now - left.stat().st_mtime) / DAY)
    for pattern in TEMPORARY:
        for left in sorted(root.glob(pattern)):
            if left.is_dir() and left.stat().st_mtime < before:
                yield Unneeded(left, freed_bytes(left), (now - left.stat().st_mtime) / DAY)
    for place in PLACES:
        for folder in sorted(root.glob(place)):
            used = last_used(folder)
            if folder.name.startswith(".") or not folder.is_dir() or not 0 < used < before:
                continue
            with lock_if_free(folder) as free:
                if not free:
                    continue
            if not named.why_kept(folder):
                yield Unneeded(folder, freed_bytes(folder), (now - used) / DAY)


def _delete(folder: Path, before: float) -> bool:
    """Delete a folder unless a process has begun to use it since it was found; return whether it was deleted."""
    if folder.name.startswith("."):
        delete_whole(folder)
        return True
    with lock_if_free(folder) as free:
        if not free or not 0 < last_used(folder) < before:
            return False
        delete_whole(folder)
    return True


def _hold_served_bases(named: Named) -> None:
    """Hold the base models that Deployments read, so that a budget for the weights deletes none, and let go of the others."""
    for one in store.published():
        if one.folder.name in named.serving:
            store.hold_served(one.folder)
        else:
            store.release_served(one.folder)


def _number(key: str, given: str, setting: str, default: Callable[[], int]) -> int:
    try:
        found = int(given) if given else default()
    except ValueError as error:
        raise UserError(
            f"the setting {setting}: {error}" if not given else f"{key}: {given!r} is not a number"
        ) from None
    if found < 0:
        raise UserError(f"{key}: must not be negative, not {found}")
    return found
