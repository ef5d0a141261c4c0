"""s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, az://CONTAINER/FOLDER: a model's folder in an object store."""

from steps.common.storage.object_store import open_store, translate_errors
from steps.common.storage.retry import with_retries
from steps.common.weights.sources.listing import Listing, SourceFile, checked, is_wanted
from steps.common.weights.sources.sums import SUMS, read_sums


def list_bucket(uri: str) -> Listing:
    """List the folder's files: with the hashes of its SHA256SUMS, or else with what the store reports about changes.

    Raises:
        UserError: there is no such folder, or access is denied.
        UnreachableError: the store did not answer, even when asked again.
    """
    return Listing(uri=uri, files=checked(uri, with_retries(f"model {uri}", lambda: _files(uri))))


def _files(uri: str) -> list[SourceFile]:
    from pyarrow import fs

    store, path = open_store(uri)
    found = translate_errors(uri, lambda: store.get_file_info(fs.FileSelector(path, allow_not_found=False)))
    there = {info.base_name: info for info in found if info.type == fs.FileType.File}
    sums = {}
    if SUMS in there:
        with translate_errors(uri, lambda: store.open_input_stream(there[SUMS].path)) as source:
            sums = read_sums(uri, translate_errors(uri, source.read))
    return [
        SourceFile(
            name=name,
            bytes=info.size,
            sha256=sums.get(name, ""),
            url=f"{uri.rstrip('/')}/{name}",
            tag=f"{info.mtime_ns} {info.size}",
        )
        for name, info in sorted(there.items())
        if is_wanted(name)
    ]
