"""The export step: a registered version as a merged model, as a GGUF file, or both, under a path that stays.

It needs no GPU. Nothing of it goes to the registry but paths and hashes: a model's gigabytes are there once, on the volume.
"""

from pathlib import Path
from typing import Annotated

from hera.workflows import Parameter
from hera.workflows.io import Input, Output

from steps.common.adapter.adapter_files import adapter_sha256, merged_key
from steps.common.adapter.merge import merge_into_base
from steps.common.handover.resolved import Resolved
from steps.common.registry import tracking
from steps.common.runtime.exit_codes import step
from steps.common.runtime.progress import say
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.storage.files import build_folder, exclusive_lock
from steps.export.disk_room import check_room
from steps.export.export_folder import ExportSource, Written, begin, keep, put_file, put_names
from steps.export.gguf_file import About, write_gguf

MERGED = "merged"


class ExportInput(Input):
    """The version to write."""

    resolved: Resolved
    base_folder: Annotated[str, Parameter(description="Folder of the base model")]
    adapter_folder: Annotated[str, Parameter(description="Folder of the version's adapter")]
    version: Annotated[int, Parameter(description="The version")]


class ExportOutput(Output):
    """Where it lies; empty where the recipe does not want it."""

    merged: Annotated[str, Parameter(description="Folder of the merged model, on the runs volume")]
    gguf: Annotated[str, Parameter(description="GGUF file, on the runs volume")]
    gguf_sha256: Annotated[str, Parameter(description="Its hash")]


@step
def export(input: ExportInput) -> ExportOutput:
    """Write what the recipe wants of the version, unless it is there already, and note it in the registry.

    Raises:
        UserError: the disk has no room for it, or llama.cpp has no such model.
    """
    recipe, adapter = input.resolved.recipe, Path(input.adapter_folder)
    folder = volumes.exported(recipe.name, input.version)
    source = ExportSource(adapter_sha256=adapter_sha256(adapter), base_digest=input.resolved.model.digest)
    wanted = {MERGED: MERGED} if recipe.export.merged else {}
    if recipe.export.gguf != "none":
        wanted[recipe.export.gguf] = _file_name(input)
    line = WaitingLine()
    with exclusive_lock(folder, on_wait=lambda: line.report("the process that exports the same version")):
        record = begin(folder, source)
        for what, name in wanted.items():
            if what in record.written:
                say(f"{folder / name}: is there already")
            else:
                _write(input, what, folder / name)
                record = keep(folder, record, what, folder / name)
    _note(input, folder, {what: record.written[what] for what in wanted})
    paths = {what: str(folder / record.written[what].path) for what in wanted}
    gguf = record.written.get(recipe.export.gguf)
    return ExportOutput(
        merged=paths.get(MERGED, ""),
        gguf=paths.get(recipe.export.gguf, ""),
        gguf_sha256=gguf.sha256 if gguf else "",
    )


def _file_name(input: ExportInput) -> str:
    """As https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#gguf-naming-convention has it."""
    recipe = input.resolved.recipe
    return f"{recipe.name}-v{input.version}-{recipe.export.gguf.upper()}.gguf"


def _write(input: ExportInput, what: str, target: Path) -> None:
    base, adapter = Path(input.base_folder), Path(input.adapter_folder)
    if not volumes.merged_model(merged_key(adapter)).exists():
        check_room(target.parent, sum(file.stat().st_size for file in base.iterdir()), "the merged model")
        say("merging the adapter into its base")
    whole = merge_into_base(base, adapter)
    if what == MERGED:
        with build_folder(target) as partial:
            put_names(whole, partial)
        return
    resolved = input.resolved
    about = About(
        name=resolved.recipe.name,
        version=f"v{input.version}",
        licence=resolved.model.licence,
        base=resolved.model.name,
        base_uri=resolved.model.uri,
    )
    say(f"{target.name}: writing")
    put_file(target, lambda partial: write_gguf(whole, partial, what, about))


def _note(input: ExportInput, folder: Path, written: dict[str, Written]) -> None:
    """Tag version and run with paths and hashes; of a quantisation the kind is in the path."""
    name, tracked = input.resolved.recipe.name, input.resolved.tracking
    store = tracking.client(tracked.uri)
    for what, one in written.items():
        key = f"fineline.export.{MERGED if what == MERGED else 'gguf'}"
        for tag, value in ((key, str(folder / one.path)), (f"{key}_sha256", one.sha256)):
            store.set_model_version_tag(name, str(input.version), tag, value)
            if tracked.run_id:
                store.set_tag(tracked.run_id, tag, value)
        say(f"{folder / one.path}: {one.bytes / 1e6:.0f} MB, sha256 {one.sha256}")
