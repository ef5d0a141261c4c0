"""Object stores: S3 and compatible ones, Google Cloud Storage and Azure Blob Storage.

Credentials come from the environment variables that each cloud's own tools read.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from steps.common.runtime.errors import InterruptedReadError, UserError

ACCESS_DENIED = (  # in Arrow's error texts
    "ACCESS_DENIED",
    "AccessDenied",
    "INVALID_ACCESS_KEY",
    "SIGNATURE_DOES_NOT_MATCH",
    "status 403",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
    "status 401",
)
NOT_FOUND = (  # in Arrow's error texts
    "No such file or directory",
    "NO_SUCH_BUCKET",
    "NO_SUCH_KEY",
    "RESOURCE_NOT_FOUND",
    "NoSuchBucket",
    "NOT_FOUND",
    "ContainerNotFound",
    "BlobNotFound",
)
CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (in a cluster, in the Secret NAME-object-store)",
    "gs": "grant the service account read access, or set GOOGLE_APPLICATION_CREDENTIALS",
    "az": "set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY (in a cluster, in the Secret NAME-object-store)",
}

GOOGLE_RETRY_SECONDS = 30.0  # how long Google's client retries by itself; its default is 15 minutes

T = TypeVar("T")


def open_store(url: str) -> tuple[Any, str]:
    """Return Arrow's file system for an object store, and the path in it.

    Args:
        url: s3://BUCKET/KEY, gs://BUCKET/KEY or az://CONTAINER/KEY.

    Raises:
        UserError: the URL names no bucket, or a required setting is missing.
    """
    scheme, _, path = url.partition("://")
    bucket = path.partition("/")[0]
    if not bucket:
        raise UserError(f"{url}: write it as {scheme}://BUCKET/KEY")
    store = {"s3": _s3, "gs": _google, "az": _azure}[scheme]
    return translate_errors(url, lambda: store(url, bucket)), path.rstrip("/")


def translate_errors(url: str, call: Callable[[], T]) -> T:
    """Return what `call` returns, and translate Arrow's errors, which are recognised by the stores' error codes in their text.

    Raises:
        UserError: the object does not exist, access is denied, or the URL is malformed.
        InterruptedReadError: the store cannot be reached, or is busy.
    """
    try:
        return call()
    except FileNotFoundError:
        raise UserError(f"{url}: does not exist") from None
    except ValueError as error:
        raise UserError(f"{url}: {' '.join(str(error).split())}") from None
    except OSError as error:
        text = " ".join(str(error).split())
        if any(word in text for word in ACCESS_DENIED):
            raise UserError(f"{url}: access denied; {CREDENTIALS[url.partition('://')[0]]}") from None
        if any(word in text for word in NOT_FOUND):
            raise UserError(f"{url}: does not exist") from None
        raise InterruptedReadError(text[:300]) from None


def _s3(url: str, bucket: str) -> Any:
    from pyarrow import fs

    options: dict[str, Any] = {}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint:
        scheme, _, host = endpoint.rstrip("/").rpartition("://")
        options |= {"endpoint_override": host, "scheme": scheme or "https"}
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", ""):
        options["region"] = region
    elif not endpoint:
        options["region"] = translate_errors(url, lambda: fs.resolve_s3_region(bucket))
    if bundle := os.environ.get("AWS_CA_BUNDLE", ""):
        options["tls_ca_file_path"] = bundle
    return fs.S3FileSystem(**options)


def _google(_url: str, _bucket: str) -> Any:
    from pyarrow import fs

    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
    retry_limit = timedelta(seconds=GOOGLE_RETRY_SECONDS)
    if not emulator:
        return fs.GcsFileSystem(retry_time_limit=retry_limit)
    scheme, _, host = emulator.rstrip("/").rpartition("://")
    return fs.GcsFileSystem(
        anonymous=True, scheme=scheme or "http", endpoint_override=host, retry_time_limit=retry_limit
    )


def _azure(url: str, _bucket: str) -> Any:
    from pyarrow import fs

    account = os.environ.get("AZURE_STORAGE_ACCOUNT", "")
    if not account:
        raise UserError(f"{url}: {CREDENTIALS['az']}")
    options: dict[str, Any] = {"account_name": account}
    if key := os.environ.get("AZURE_STORAGE_KEY", ""):
        options["account_key"] = key
    if endpoint := os.environ.get("AZURE_STORAGE_ENDPOINT", ""):
        scheme, _, host = endpoint.rstrip("/").rpartition("://")
        for api in ("blob", "dfs"):
            options |= {f"{api}_storage_authority": host, f"{api}_storage_scheme": scheme or "https"}
    return fs.AzureFileSystem(**options)
