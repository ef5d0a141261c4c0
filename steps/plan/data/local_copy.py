"""Brings a file from elsewhere onto the runs volume, under its digest; not again where its source says that it is the same."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from steps.common.rows.read_rows import KINDS
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress, say
from steps.common.storage import volumes
from steps.common.storage.files import digest_of, write_text
from steps.plan.data.remote_file import RemoteFile
from steps.plan.data.retry import patiently

SCHEMES = {
    "https": "steps.plan.data.web_file",
    "http": "steps.plan.data.web_file",
    "s3": "steps.plan.data.s3_file",
    "hf": "steps.plan.data.hub_file",
}


@dataclass(frozen=True)
class LocalCopy:
    """A copy on the volume."""

    pinned: str
    tag: str
    path: str
    sha256: str
    bytes: int


def fetch(url: str, kinds: Iterable[str] = KINDS) -> LocalCopy:
    """Return the copy of what is at the URL now.

    Args:
        url: of a scheme of `SCHEMES`.
        kinds: the suffixes that it may have.

    Raises:
        UserError: unknown scheme or kind of file, nothing there, no access, or out of reach; nothing is left of a part.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UserError(f"{url}: unknown scheme {scheme!r}; known are {known}")
    suffix = Path(rest.partition("?")[0]).suffix.lower()
    if suffix not in kinds:
        raise UserError(f"{url.partition('?')[0]}: unknown kind of data file {suffix!r}; known are {', '.join(kinds)}")
    look: Callable[[str], RemoteFile] = import_module(SCHEMES[scheme]).look
    remote = look(url)
    note = volumes.runs() / "data" / "remote" / f"{digest_of(url)[:16]}.json"
    kept = _kept(note)
    if kept and remote.tag and kept.tag == remote.tag and Path(kept.path).exists():
        say(f"{remote.pinned}: already here, nothing to fetch")
        return kept
    fetched = patiently(remote.pinned, lambda: _copy(remote))
    write_text(note, json.dumps(asdict(fetched), indent=2) + "\n")
    return fetched


def _kept(note: Path) -> LocalCopy | None:
    try:
        return LocalCopy(**json.loads(note.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _copy(remote: RemoteFile) -> LocalCopy:
    root = volumes.runs() / "data"
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".fetching-", dir=root))
    try:
        digest, done = hashlib.sha256(), 0
        progress = Progress(remote.size >> 20, f"MiB of {remote.name}")
        with (folder / remote.name).open("wb") as out:
            for block in remote.blocks():
                out.write(block)
                digest.update(block)
                done += len(block)
                progress.update(done >> 20)
            out.flush()
            os.fsync(out.fileno())
        sha256 = digest.hexdigest()
        final = root / sha256[:16] / remote.name
        final.parent.mkdir(parents=True, exist_ok=True)
        (folder / remote.name).chmod(0o644)
        (folder / remote.name).replace(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say(f"{remote.pinned}: {done} bytes, sha256 {sha256[:12]}")
    return LocalCopy(remote.pinned, remote.tag, str(final), sha256, done)
