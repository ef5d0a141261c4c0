"""The contents of uploaded files in the object store, to which `submit` sends data too."""

import contextlib
from collections.abc import Collection, Iterator
from functools import partial
from typing import BinaryIO, cast

from api.database.tables import TeamFile
from api.files.file_contents import DEFAULT_MOST_BYTES, NAME, FileContents, IncomingContent, content_name, start_of
from api.openai_errors import ApiError
from steps.common.runtime.errors import UnreachableError, UserError
from steps.common.storage.object_store import open_store, translate_errors
from steps.common.storage.retry import with_retries
from steps.plan.data.s3_file import put

SCHEME = "s3://"
STORE_SETTING = "FINELINE_DATA_URL"  # s3://BUCKET/PREFIX; `submit` reads it too


class BucketContents(FileContents):
    """See `FileContents`. An upload stays on this machine's disk until it is checked."""

    def __init__(self, url: str, most_bytes: int = DEFAULT_MOST_BYTES) -> None:
        """Set the place.

        Args:
            url: s3://BUCKET/PREFIX.
            most_bytes: size limit of a file.

        Raises:
            UserError: the URL is not of this form.
        """
        super().__init__(most_bytes)
        if not url.startswith(SCHEME):
            raise UserError(f"the setting {STORE_SETTING} is {url!r}; write it as s3://BUCKET/PREFIX")
        self._url = url.rstrip("/")

    def send(self, content: IncomingContent) -> None:
        """Upload complete content to its final place; until a file with its digest is committed, a deletion may delete it."""
        self.publish(content)

    def publish(self, content: IncomingContent) -> None:
        """Upload complete content to its final place, unless it is there; the caller holds the lock."""
        content.close()
        with _reachable():
            put(content.path, f"{self._url}/{start_of(content.sha256)}/{content.path.name}")

    def address(self, file: TeamFile) -> str:
        """Return the address of a file's content, as a recipe's `data.train` takes it."""
        return f"{self._url}/{start_of(file.sha256)}/{content_name(file.filename)}"

    def open(self, file: TeamFile) -> BinaryIO:
        """Open a file's content.

        Raises:
            FileNotFoundError: it is gone.
            ApiError: the store refuses or does not answer.
        """
        url = self.address(file)

        def begin() -> BinaryIO:
            from pyarrow import fs

            store, path = open_store(url)
            if translate_errors(url, lambda: store.get_file_info(path)).type != fs.FileType.File:
                raise FileNotFoundError(url)
            return cast(BinaryIO, translate_errors(url, lambda: store.open_input_stream(path)))

        with _reachable():
            return with_retries(url, begin)

    def published(self) -> set[str]:
        """Return the digest prefixes of all published contents."""
        return {path.split("/")[-2] for path in self._objects(self._url)}

    def delete(self, starts: Collection[str]) -> None:
        """Delete the contents with these digest prefixes."""
        store, _ = open_store(self._url)

        def delete(path: str) -> None:
            with contextlib.suppress(UserError):  # it is gone already
                translate_errors(self._url, lambda: store.delete_file(path))

        for start in starts:
            for path in self._objects(f"{self._url}/{start}"):
                with_retries(self._url, partial(delete, path))

    def _objects(self, url: str) -> list[str]:
        """Return the paths of all contents below an address."""

        def ask() -> list[str]:
            from pyarrow import fs

            store, path = open_store(url)
            selector = fs.FileSelector(path, allow_not_found=True, recursive=True)
            found = translate_errors(url, lambda: store.get_file_info(selector))
            paths = [info.path for info in found if info.type == fs.FileType.File]
            return [path for path in paths if path.split("/")[-1].startswith(f"{NAME}.")]

        return with_retries(url, ask)


@contextlib.contextmanager
def _reachable() -> Iterator[None]:
    """Report to the client that the store refuses or does not answer, without the store's address.

    Raises:
        ApiError: the store refuses or does not answer.
    """
    try:
        yield
    except (UserError, UnreachableError) as error:
        raise ApiError(
            503, "the server cannot reach its file store; try again, or ask its administrator", wait_seconds=10
        ) from error
