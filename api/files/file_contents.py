"""The contents of uploaded files, on the runs volume beside the data that `submit` sends: each once, under its digest.

Content arrives in a temporary folder, and is moved to its final place once it is complete and checked. A lock is held to
publish or delete contents, so that what a new file needs is not deleted.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from api.database.tables import TeamFile
from api.openai_errors import ApiError
from steps.common.rows.files.file_kind import suffixes
from steps.common.storage import volumes
from steps.common.storage.disk_errors import FULL
from steps.common.storage.files import exclusive_lock

INCOMING = ".incoming-"  # start of the name of a temporary folder
# Not the user's file name: it may contain wildcards, and the path appears in messages to other teams.
NAME = volumes.UPLOADED
FOLDER = "[0-9a-f]" * 16  # pattern of a digest's prefix
DEFAULT_MOST_BYTES = 512 << 20  # as OpenAI's
DAY = 24 * 3600


class IncomingContent:
    """Content that is being written."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Open the file."""
        self.path, self.bytes = path, 0
        self._most, self._digest = most_bytes, hashlib.sha256()
        self._file = path.open("wb")

    @property
    def sha256(self) -> str:
        """The SHA-256 so far, in hex."""
        return self._digest.hexdigest()

    def write(self, part: bytes) -> None:
        """Append a part.

        Raises:
            ApiError: the file is too large, or the disk is full.
        """
        self.bytes += len(part)
        if self.bytes > self._most:
            raise ApiError(
                413, f"the file is larger than the {self._most} bytes that this server accepts; split it", param="file"
            )
        self._digest.update(part)
        with _room():
            self._file.write(part)

    def close(self) -> None:
        """Write what is buffered to the disk."""
        if not self._file.closed:
            with _room(), self._file:
                self._file.flush()
                os.fsync(self._file.fileno())

    def give_up(self) -> None:
        """Close the file, which is deleted unless it was published, without waiting for the disk."""
        with contextlib.suppress(OSError):  # there is no room for what is buffered
            self._file.close()


class FileContents:
    """The contents of all teams' files."""

    def __init__(self, most_bytes: int = DEFAULT_MOST_BYTES) -> None:
        """Set the size limit of a file."""
        self.most_bytes = most_bytes
        self.failing_until = 0.0  # monotonic time until which only what cannot wait is stored

    @contextlib.contextmanager
    def incoming(self, filename: str) -> Iterator[IncomingContent]:
        """Yield content to write to. It is deleted unless it is published within the block."""
        folder = _data()
        with _room():
            folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=INCOMING, dir=folder))
        try:
            content = IncomingContent(temporary / content_name(filename), self.most_bytes)
            try:
                yield content
            finally:
                content.give_up()
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def send(self, content: IncomingContent) -> None:
        """Do the part of publishing complete content that takes long, before the lock is held."""
        content.close()

    def publish(self, content: IncomingContent) -> None:
        """Move complete content to its final place; the caller holds the lock until a file with the digest is committed."""
        content.close()
        final = volumes.sent_data(content.sha256) / content.path.name
        with _room():
            final.parent.mkdir(parents=True, exist_ok=True)
            content.path.chmod(0o644)
            content.path.replace(final)

    def address(self, file: TeamFile) -> str:
        """Return the address of a file's content, as a recipe's `data.train` takes it."""
        return str(_path(file.sha256, file.filename))

    def open(self, file: TeamFile) -> BinaryIO:
        """Open a file's content.

        Raises:
            FileNotFoundError: it is gone from the disk.
        """
        return _path(file.sha256, file.filename).open("rb")

    def lock(self) -> AbstractContextManager[None]:
        """Hold the lock for publishing and deleting contents."""
        return exclusive_lock(_data() / "uploads", on_wait=lambda: None)

    def published(self) -> set[str]:
        """Return the digest prefixes of all published contents."""
        return {file.parent.name for file in _data().glob(f"{FOLDER}/{NAME}.*")}

    def delete(self, starts: Collection[str]) -> None:
        """Delete the contents with these digest prefixes; the caller holds the lock, and nothing needs them."""
        for start in starts:
            for file in (_data() / start).glob(f"{NAME}.*"):
                file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # `submit` has sent the same content under another name
                (_data() / start).rmdir()

    def delete_interrupted(self) -> None:
        """Delete what interrupted uploads have left."""
        for folder in _data().glob(f"{INCOMING}*"):
            with contextlib.suppress(FileNotFoundError):
                if folder.stat().st_mtime < time.time() - DAY:
                    shutil.rmtree(folder, ignore_errors=True)


def content_name(filename: str) -> str:
    """Return the name of the file that holds the content; its suffixes show the kind of rows and the compression."""
    kind, packed = suffixes(filename)
    return f"{NAME}{kind}{packed}"


def start_of(sha256: str) -> str:
    """Return the prefix of a digest, which is the name of the content's folder."""
    return volumes.sent_data(sha256).name


def _path(sha256: str, filename: str) -> Path:
    return volumes.sent_data(sha256) / content_name(filename)


def _data() -> Path:
    return volumes.runs() / "data"


@contextlib.contextmanager
def _room() -> Iterator[None]:
    """Report to the client that the disk is full, without its path.

    Raises:
        ApiError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise ApiError(503, "the server's disk is full; ask its administrator to free space") from error
        raise
