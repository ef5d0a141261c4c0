"""Downloads remote files to the runs volume, under their digests, unless their source reports that they have not changed."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from steps.common.rows.files.file_kind import check_known
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress, say
from steps.common.runtime.redaction import without_credentials
from steps.common.storage import volumes
from steps.common.storage.files import digest_of, write_text
from steps.common.storage.record import NewerRecordError, Record
from steps.common.storage.retry import with_retries
from steps.plan.data.remote_file import RemoteFile

SCHEMES = {
    "https": "steps.plan.data.web_file",
    "http": "steps.plan.data.web_file",
    "s3": "steps.plan.data.s3_file",
    "hf": "steps.plan.data.hub_file",
}


class LocalCopy(Record):
    """A downloaded copy on the volume."""

    pinned: str
    tag: str
    path: str
    sha256: str
    bytes: int


def fetch(url: str, check_name: Callable[[str], None] = check_known) -> LocalCopy:
    """Return a copy of the one file that is at the URL now.

    Args:
        url: URL with a scheme of `SCHEMES`.
        check_name: refuses the name of a file of another kind.

    Raises:
        UserError: the scheme or the suffix is unknown, there is no such file or there are several, or access is denied.
        UnreachableError: the source did not answer, even when asked again. A partial download is deleted.
    """
    found = _find(url, check_name)
    if len(found) > 1:
        raise UserError(f"{without_credentials(url)}: has {len(found)} files; name one of them")
    return _fetched(url, found[0])


def fetch_all(url: str, check_name: Callable[[str], None] = check_known) -> list[LocalCopy]:
    """Return copies of the files that are at the URL now: one, or those of a folder or a pattern.

    Args:
        url: URL with a scheme of `SCHEMES`.
        check_name: refuses the name of a file of another kind.

    Raises:
        UserError: the scheme or the suffix is unknown, there is no such file, or access is denied.
        UnreachableError: the source did not answer, even when asked again. A partial download is deleted.
    """
    return [_fetched(url, remote) for remote in _find(url, check_name)]


def _find(url: str, check_name: Callable[[str], None]) -> list[RemoteFile]:
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UserError(f"{url}: unknown scheme {scheme!r}; known are {known}")
    if scheme.startswith("http"):  # has no folders: refused before it is asked
        check_name(without_credentials(f"{scheme}://{rest.partition('?')[0]}"))
    find_remote: Callable[[str], list[RemoteFile]] = import_module(SCHEMES[scheme]).find_remote
    found = find_remote(url)
    for remote in found:
        check_name(remote.pinned)
    return found


def _fetched(url: str, remote: RemoteFile) -> LocalCopy:
    address = without_credentials(remote.address or url)
    record = volumes.runs() / "data" / "remote" / f"{digest_of(address)[:16]}.json"
    last = _read(record)
    if last and remote.tag and last.tag == remote.tag and Path(last.path).exists():
        say(f"{remote.pinned}: unchanged since the last download")
        return last
    fetched = with_retries(remote.pinned, lambda: _copy(remote))
    write_text(record, fetched.model_dump_json(indent=2) + "\n")
    return fetched


def _read(record: Path) -> LocalCopy | None:
    try:
        return LocalCopy.read(record.read_text(), record)
    except (FileNotFoundError, ValueError, NewerRecordError):
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
    return LocalCopy(pinned=remote.pinned, tag=remote.tag, path=str(final), sha256=sha256, bytes=done)
