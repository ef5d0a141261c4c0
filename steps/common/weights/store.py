"""The weights volume: published models, the content that they share, the time of their last use, and the runs that hold them.

models/DIGEST/          a published model, with its manifest
models/DIGEST.used      its modification time is the time of the last use
blobs/SHA256            the content of a large file, hard-linked to each model that has it
RUNS/holds/DIGEST/RUN   the run needs the model; `vllm-server` in place of a run: vLLM reads it
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from steps.common.storage import volumes
from steps.common.storage.files import sha256_of
from steps.common.storage.record import Record
from steps.common.weights.sources.listing import SourceFile

MANIFEST = "manifest.json"
SERVED, SERVED_HOURS = "vllm-server", 8 * 24.0  # the holder of a model that vLLM reads
BLOB_BYTES = 1 << 20  # smaller files are not shared: fetching them takes no time


class StoredFile(BaseModel):
    """A file of a published model."""

    name: str
    bytes: int
    sha256: str


class Manifest(Record):
    """The content of a published model's manifest.json."""

    uri: str
    digest: str  # of the source's files, see `Listing.digest`
    licence: str
    source_files: list[SourceFile]
    left_out: list[SourceFile] = []  # weights at the source that were not fetched
    files: list[StoredFile]
    seconds: float  # that fetching took
    code_version: str


@dataclass(frozen=True)
class Published:
    """A model on the volume."""

    folder: Path
    uri: str
    bytes: int
    used: float  # seconds since 1970
    holders: list[str]  # runs that need it


def intact(folder: Path) -> bool:
    """Return whether a published folder has all files of its manifest, each with its size."""
    manifest = read_manifest(folder)
    try:
        return bool(manifest) and all((folder / f["name"]).stat().st_size == f["bytes"] for f in manifest["files"])
    except FileNotFoundError:
        return False


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a published folder as `Manifest` has it; empty if there is none, or it cannot be read.

    Raises:
        NewerRecordError: a later release wrote it.
    """
    try:
        found = Manifest.upgraded(json.loads((folder / MANIFEST).read_text()), folder / MANIFEST)
        return found if isinstance(found.get("files"), list) else {}
    except (OSError, ValueError, AttributeError):
        return {}


def folders_of(uri: str, kind: str = "*") -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the published folders of a URI with their manifests. Their files may be damaged: see `intact`.

    Args:
        uri: of the model, pinned.
        kind: of the folders: "models" or "tokenizers"; "*" for both.
    """
    for file in volumes.weights().glob(f"{kind}/*/{MANIFEST}"):
        manifest = read_manifest(file.parent)
        if manifest.get("uri") == uri:
            yield file.parent, manifest


def is_content(path: Path, file: SourceFile) -> bool:
    """Return whether a file has the listed size and hash; git's hash for small files, which a hub does not keep in LFS."""
    if file.bytes and path.stat().st_size != file.bytes:
        return False
    if file.sha256:
        return sha256_of(path) == file.sha256
    if file.git_sha1:
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == file.git_sha1
    return False


def link(sha256: str, size: int, target: Path) -> bool:
    """Hard-link content that the volume has to `target`, after checking its hash; return whether it had it."""
    blob = _blob(sha256)
    try:
        if blob.stat().st_size != size or sha256_of(blob) != sha256:
            blob.unlink()  # damaged; `verify` will find the models that have it
            return False
        os.link(blob, target)
    except OSError:  # does not exist, or the volume does not support hard links
        return False
    return True


def link_blobs(folder: Path) -> None:
    """Hard-link the large files of a published model to their blobs, so that other models can use them."""
    for file in read_manifest(folder).get("files", []):
        blob = _blob(file["sha256"])
        if file["bytes"] >= BLOB_BYTES and not blob.exists():
            blob.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                os.link(folder / file["name"], blob)


def delete_leftovers(partial: Path) -> None:
    """Delete temporary files from a folder that is about to be published."""
    for path in partial.iterdir():
        if path.suffix in (".part", ".journal", ".whl") or path.name == MANIFEST or path.name.startswith("."):
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)


def mark_used(folder: Path) -> None:
    """Record that a published model is used now."""
    with contextlib.suppress(OSError):
        folder.with_name(folder.name + ".used").touch()


def hold(folder: Path, run: str, hours: float) -> None:
    """Record that a run needs a model until it ends, and for so many hours at most, in case its end is never recorded."""
    place = _holds() / folder.name
    place.mkdir(parents=True, exist_ok=True)
    (place / run).touch()
    until = time.time() + hours * 3600
    os.utime(place / run, (until, until))


def hold_served(folder: Path) -> None:
    """Record that a server reads a model. It is recorded anew each day, and lapses after some days without."""
    hold(folder, SERVED, SERVED_HOURS)


def release_served(folder: Path) -> None:
    """Record that no server reads a model."""
    (_holds() / folder.name / SERVED).unlink(missing_ok=True)


def release_holds(run: str) -> None:
    """Record that a run has ended."""
    for held in _holds().glob(f"*/{run}"):
        with contextlib.suppress(OSError):
            held.unlink()


def discard(folder: Path) -> bool:
    """Delete a published model; readers see it complete or not at all. Return whether there was one."""
    leaving = folder.with_name(f".{folder.name}.leaving")
    shutil.rmtree(leaving, ignore_errors=True)  # left by an earlier attempt
    try:
        folder.rename(leaving)
    except FileNotFoundError:
        return False
    shutil.rmtree(leaving, ignore_errors=True)
    folder.with_name(folder.name + ".used").unlink(missing_ok=True)
    return True


def published() -> list[Published]:
    """Return the models on the volume, the least recently used first."""
    found = []
    for folder in (volumes.weights() / "models").glob("*"):
        manifest = {} if "." in folder.name else read_manifest(folder)  # folders in progress have a dot in their names
        if manifest:
            size = sum(file["bytes"] for file in manifest["files"])
            found.append(Published(folder, manifest["uri"], size, _used(folder), holders(folder)))
    return sorted(found, key=lambda one: one.used)


def has_blob(sha256: str, size: int) -> bool:
    """Return whether the volume has a blob of that size; its hash is checked by `link`."""
    try:
        return bool(sha256) and _blob(sha256).stat().st_size == size
    except FileNotFoundError:
        return False


def delete_unused_blobs(but: Collection[str] = ()) -> None:
    """Delete blobs that no published model has any more, except those with these hashes."""
    for blob in (volumes.weights() / "blobs").glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if blob.name not in but and blob.stat().st_nlink == 1:
                blob.unlink()


def _used(folder: Path) -> float:
    try:
        return folder.with_name(folder.name + ".used").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def holders(folder: Path) -> list[str]:
    """Return the runs that need a model."""
    found = []
    for held in (_holds() / folder.name).glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if held.stat().st_mtime > time.time():
                found.append(held.name)
    return sorted(found)


def _holds() -> Path:
    return volumes.runs() / "holds"


def _blob(sha256: str) -> Path:
    return volumes.weights() / "blobs" / sha256
