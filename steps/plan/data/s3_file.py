"""s3://BUCKET/KEY, a folder or a pattern of keys, with the credentials, region and endpoint of the AWS_ settings."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress
from steps.common.storage.files import BLOCK
from steps.common.storage.object_store import open_store, translate_errors
from steps.common.storage.retry import with_retries
from steps.plan.data.file_names import fixed_folder, is_pattern, matching, refuse_several_splits, rows_among
from steps.plan.data.remote_file import RemoteFile


def find_remote(url: str) -> list[RemoteFile]:
    """Find the object at the key, or those below it or that match it.

    Raises:
        UserError: there is no object, a folder has no rows or several splits, or access is denied.
        UnreachableError: the store did not answer, even when asked again.
    """
    path = url.removeprefix("s3://").rstrip("/")
    bucket, _, key = path.partition("/")
    if not bucket or not key:
        raise UserError(f"{url}: write it as s3://BUCKET/KEY")

    def ask() -> list[RemoteFile]:
        from pyarrow import fs

        store, _ = open_store(url)
        info = translate_errors(url, lambda: store.get_file_info(path))
        if info.type == fs.FileType.File:
            return [_remote(store, url, info)]
        if info.type == fs.FileType.Directory:
            there = _below(store, url, path)
            chosen = rows_among(url, there)
            refuse_several_splits(url, chosen)
            return [_remote(store, f"{url.rstrip('/')}/{name}", there[name]) for name in chosen]
        if not is_pattern(key):
            raise UserError(f"{url}: does not exist")
        folder = fixed_folder(path)
        there = _below(store, url, folder)
        matched = matching(there, path.removeprefix(f"{folder}/"))
        if not matched:
            raise UserError(f"{url}: no object matches")
        return [_remote(store, f"s3://{folder}/{name}", there[name]) for name in rows_among(url, matched)]

    return with_retries(url, ask)


def _below(store: Any, url: str, folder: str) -> dict[str, Any]:
    """Return what the store says of each object below a folder that is not empty, by name."""
    from pyarrow import fs

    selector = fs.FileSelector(folder, recursive=True)
    found = translate_errors(url, lambda: store.get_file_info(selector))
    return {info.path.removeprefix(f"{folder}/"): info for info in found if info.type == fs.FileType.File and info.size}


def _remote(store: Any, url: str, info: Any) -> RemoteFile:
    def blocks() -> Iterator[bytes]:
        source = translate_errors(url, lambda: store.open_input_stream(info.path))
        with source:
            while block := translate_errors(url, lambda: source.read(BLOCK)):
                yield block

    return RemoteFile(info.base_name, url, f"{info.mtime_ns} {info.size}", info.size, blocks, address=url)


def put(file: Path, url: str) -> str:
    """Upload a local file to the key, unless an object of its size exists there, and return the URL.

    Args:
        file: the local file.
        url: s3://BUCKET/KEY, which contains the digest of the content.

    Raises:
        UserError: writing is denied.
        UnreachableError: the store did not answer, even when asked again.
    """
    path = url.removeprefix("s3://")

    def write() -> str:
        from pyarrow import fs

        store, _ = open_store(url)
        there = translate_errors(url, lambda: store.get_file_info(path))
        if there.type == fs.FileType.File and there.size == file.stat().st_size:
            return url
        progress = Progress(file.stat().st_size >> 10, f"KiB of {file.name}")
        with file.open("rb") as source, translate_errors(url, lambda: store.open_output_stream(path)) as target:
            while block := source.read(BLOCK):
                translate_errors(url, partial(target.write, block))
                progress.update(source.tell() >> 10)
            translate_errors(url, target.close)
        return url

    return with_retries(url, write)
