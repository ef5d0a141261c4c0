"""The export step: writes a registered version as a merged model, as a GGUF file, or both, to a fixed path.

It needs no GPU. The registry gets only paths and hashes, so that a model's gigabytes are stored once, on the volume.
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
from steps.export.disk_space import check_disk_space
from steps.export.export_folder import (
    ExportedFile,
    ExportSource,
    link_files,
    open_export_folder,
    record_export,
    write_whole_file,
)
from steps.export.gguf_file import GgufMetadata, write_gguf

MERGED = "merged"


class ExportInput(Input):
    """The version to export."""

    resolved: Resolved
    base_folder: Annotated[str, Parameter(description="Folder of the base model")]
    adapter_folder: Annotated[str, Parameter(description="Folder of the version's adapter")]
    version: Annotated[int, Parameter(description="The version")]


class ExportOutput(Output):
    """Paths and hash of the exports; empty for a form that the recipe does not ask for."""

    merged: Annotated[str, Parameter(description="Folder of the merged model, on the runs volume")]
    gguf: Annotated[str, Parameter(description="GGUF file, on the runs volume")]
    gguf_sha256: Annotated[str, Parameter(description="SHA-256 of the GGUF file")]


@step
def export(input: ExportInput) -> ExportOutput:
    """Write the forms that the recipe asks for, unless they exist, and tag the version with their paths and hashes.

    Raises:
        UserError: too little disk space is free, or llama.cpp does not support the model.
    """
    recipe, adapter = input.resolved.recipe, Path(input.adapter_folder)
    folder = volumes.exported(recipe.name, input.version)
    source = ExportSource(adapter_sha256=adapter_sha256(adapter), base_digest=input.resolved.model.digest)
    names = {MERGED: MERGED} if recipe.export.merged else {}
    if recipe.export.gguf != "none":
        names[recipe.export.gguf] = _gguf_name(input)
    line = WaitingLine()
    with exclusive_lock(folder, on_wait=lambda: line.report("the process that exports the same version")):
        record = open_export_folder(folder, source)
        for form, name in names.items():
            if form in record.written:
                say(f"{folder / name}: already exported")
            else:
                _write(input, form, folder / name)
                record = record_export(folder, record, form, folder / name)
    _tag(input, folder, {form: record.written[form] for form in names})
    paths = {form: str(folder / record.written[form].path) for form in names}
    gguf = record.written.get(recipe.export.gguf)
    return ExportOutput(
        merged=paths.get(MERGED, ""),
        gguf=paths.get(recipe.export.gguf, ""),
        gguf_sha256=gguf.sha256 if gguf else "",
    )


def _gguf_name(input: ExportInput) -> str:
    """Return the file's name by https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#gguf-naming-convention."""
    recipe = input.resolved.recipe
    return f"{recipe.name}-v{input.version}-{recipe.export.gguf.upper()}.gguf"


def _write(input: ExportInput, form: str, target: Path) -> None:
    base, adapter = Path(input.base_folder), Path(input.adapter_folder)
    if not volumes.merged_model(merged_key(adapter)).exists():
        check_disk_space(target.parent, sum(file.stat().st_size for file in base.iterdir()), "the merged model")
        say("merging the adapter into its base")
    merged = merge_into_base(base, adapter)
    if form == MERGED:
        with build_folder(target) as partial:
            link_files(merged, partial)
        return
    resolved = input.resolved
    metadata = GgufMetadata(
        name=resolved.recipe.name,
        version=f"v{input.version}",
        licence=resolved.model.licence,
        base=resolved.model.name,
        base_uri=resolved.model.uri,
    )
    say(f"{target.name}: writing")
    write_whole_file(target, lambda partial: write_gguf(merged, partial, form, metadata))


def _tag(input: ExportInput, folder: Path, exports: dict[str, ExportedFile]) -> None:
    """Tag version and run with paths and hashes; the path of a GGUF file names its quantisation."""
    name, tracked = input.resolved.recipe.name, input.resolved.tracking
    store = tracking.client(tracked.uri)
    for form, exported in exports.items():
        key = f"fineline.export.{MERGED if form == MERGED else 'gguf'}"
        for tag, value in ((key, str(folder / exported.path)), (f"{key}_sha256", exported.sha256)):
            store.set_model_version_tag(name, str(input.version), tag, value)
            if tracked.run_id:
                store.set_tag(tracked.run_id, tag, value)
        say(f"{folder / exported.path}: {exported.bytes / 1e6:.0f} MB, sha256 {exported.sha256}")
