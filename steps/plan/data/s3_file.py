"""s3://BUCKET/KEY, with the credentials, region and endpoint of the AWS_ settings."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress
from steps.common.storage.files import BLOCK
from steps.common.storage.object_store import open_store, translate_errors
from steps.common.storage.retry import with_retries
from steps.plan.data.remote_file import RemoteFile


def find_remote(url: str) -> RemoteFile:
    """Find the object at the key.

    Raises:
        UserError: there is no object, or access is denied.
        UnreachableError: the store did not answer, even when asked again.
    """
    path = url.removeprefix("s3://")
    bucket, _, key = path.partition("/")
    if not bucket or not key:
        raise UserError(f"{url}: write it as s3://BUCKET/KEY")

    def ask() -> RemoteFile:
        from pyarrow import fs

        store, _ = open_store(url)
        info = translate_errors(url, lambda: store.get_file_info(path))
        if info.type != fs.FileType.File:
            raise UserError(f"{url}: does not exist")
        return RemoteFile(key.rpartition("/")[2], url, f"{info.mtime_ns} {info.size}", info.size, lambda: blocks(store))

    def blocks(store: Any) -> Iterator[bytes]:
        source = translate_errors(url, lambda: store.open_input_stream(path))
        with source:
            while block := translate_errors(url, lambda: source.read(BLOCK)):
                yield block

    return with_retries(url, ask)


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
