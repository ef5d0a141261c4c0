"""s3://BUCKET/KEY, with the credentials, region and endpoint that the AWS_ settings name."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steps.common.errors import UserError
from steps.common.files import BLOCK
from steps.common.progress import Progress
from steps.plan.remote.retry import patiently
from steps.plan.remote.source import InterruptedReadError, RemoteFile

REFUSED = ("ACCESS_DENIED", "AccessDenied", "INVALID_ACCESS_KEY", "SIGNATURE_DOES_NOT_MATCH", "status 403")
NOTHING = ("NO_SUCH_BUCKET", "NO_SUCH_KEY", "RESOURCE_NOT_FOUND", "NoSuchBucket")
CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in a cluster by the Secret NAME-object-store"


def look(url: str) -> RemoteFile:
    """Ask what is at the key.

    Raises:
        UserError: nothing is there, it may not be read, or the store is out of reach.
    """
    path = url.removeprefix("s3://")
    bucket, _, key = path.partition("/")
    if not bucket or not key:
        raise UserError(f"{url}: write it as s3://BUCKET/KEY")

    def ask() -> RemoteFile:
        from pyarrow import fs

        store = _store(url, bucket)
        info = _told(url, lambda: store.get_file_info(path))
        if info.type != fs.FileType.File:
            raise UserError(f"{url}: nothing is there")
        return RemoteFile(key.rpartition("/")[2], url, f"{info.mtime_ns} {info.size}", info.size, lambda: blocks(store))

    def blocks(store: Any) -> Iterator[bytes]:
        source = _told(url, lambda: store.open_input_stream(path))
        with source:
            while block := _told(url, lambda: source.read(BLOCK)):
                yield block

    return patiently(url, ask)


def put(file: Path, url: str) -> str:
    """Write a file of this machine to the key, unless one of its size is there, and return the URL.

    Args:
        file: what to write.
        url: s3://BUCKET/KEY, with the content's digest in it.

    Raises:
        UserError: it may not be written there, or the store is out of reach.
    """
    path = url.removeprefix("s3://")

    def write() -> str:
        from pyarrow import fs

        store = _store(url, path.partition("/")[0])
        there = _told(url, lambda: store.get_file_info(path))
        if there.type == fs.FileType.File and there.size == file.stat().st_size:
            return url
        progress = Progress(file.stat().st_size >> 10, f"KiB of {file.name}")
        with file.open("rb") as source, _told(url, lambda: store.open_output_stream(path)) as target:
            while block := source.read(BLOCK):
                _told(url, lambda block=block: target.write(block))
                progress.update(source.tell() >> 10)
            _told(url, target.close)
        return url

    return patiently(url, write)


def _store(url: str, bucket: str) -> Any:
    from pyarrow import fs

    options: dict[str, Any] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint:
        scheme, _, host = endpoint.rstrip("/").rpartition("://")
        options |= {"endpoint_override": host, "scheme": scheme or "https"}
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", ""):
        options["region"] = region
    elif not endpoint:
        options["region"] = _told(url, lambda: fs.resolve_s3_region(bucket))
    if bundle := os.environ.get("AWS_CA_BUNDLE", ""):
        options["tls_ca_file_path"] = bundle
    return fs.S3FileSystem(**options)


def _told(url: str, ask: Any) -> Any:
    """Return what `ask` returns; turn Arrow's errors into ours by the words of S3 in them."""
    try:
        return ask()
    except FileNotFoundError:
        raise UserError(f"{url}: nothing is there") from None
    except OSError as error:
        text = " ".join(str(error).split())
        if any(word in text for word in REFUSED):
            raise UserError(f"{url}: may not be read; {CREDENTIALS}") from None
        if any(word in text for word in NOTHING):
            raise UserError(f"{url}: nothing is there") from None
        raise InterruptedReadError(text[:300]) from None
