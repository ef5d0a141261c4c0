"""The contents of uploaded files, on the runs volume beside what `submit` sends: each once, under its digest.

A content is written into a temporary folder while it arrives, and renamed to its place once it is complete and checked.
Whoever publishes or deletes one holds the lock, so that a content that a new file needs is not deleted under it.
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
# Not the user's name of the file: it may have a pattern's characters, and the path is in what other teams' runs are told.
NAME = "uploaded"
FOLDER = "[0-9a-f]" * 16  # as a pattern: the beginning of a digest
DEFAULT_MOST_BYTES = 512 << 20  # as OpenAI's
DAY = 24 * 3600


class IncomingContent:
    """A content that is being written."""

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
            ApiError: the file is larger than is allowed, or the disk is full.
        """
        self.bytes += len(part)
        if self.bytes > self._most:
            raise ApiError(
                413, f"the file is larger than {self._most} bytes, which is the most here; divide it", param="file"
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


class FileContents:
    """The contents of all teams' files."""

    def __init__(self, most_bytes: int = DEFAULT_MOST_BYTES) -> None:
        """Set the size limit of a file."""
        self.most_bytes = most_bytes

    @contextlib.contextmanager
    def incoming(self, filename: str) -> Iterator[IncomingContent]:
        """Yield a content to write to; unless it is published within the block, nothing of it is kept."""
        folder = _data()
        with _room():
            folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=INCOMING, dir=folder))
        try:
            content = IncomingContent(temporary / content_name(filename), self.most_bytes)
            try:
                yield content
            finally:
                content.close()
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def publish(self, content: IncomingContent) -> None:
        """Rename a complete content to its place; the caller holds the lock until a file with its digest is committed."""
        content.close()
        final = volumes.sent_data(content.sha256) / content.path.name
        with _room():
            final.parent.mkdir(parents=True, exist_ok=True)
            content.path.chmod(0o644)
            content.path.replace(final)

    def address(self, file: TeamFile) -> str:
        """Return the place of a file's content, as a recipe's `data.train` names it."""
        return str(_path(file.sha256, file.filename))

    def open(self, file: TeamFile) -> BinaryIO:
        """Open a file's content.

        Raises:
            FileNotFoundError: it is gone from the disk.
        """
        return _path(file.sha256, file.filename).open("rb")

    def lock(self) -> AbstractContextManager[None]:
        """Hold the right to publish and to delete contents."""
        return exclusive_lock(_data() / "uploads", on_wait=lambda: None)

    def published(self) -> set[str]:
        """Return the beginnings of the digests of all contents that were published."""
        return {file.parent.name for file in _data().glob(f"{FOLDER}/{NAME}.*")}

    def delete(self, starts: Collection[str]) -> None:
        """Delete the contents whose digests begin so; the caller holds the lock, and knows that nothing needs them."""
        for start in starts:
            for file in (_data() / start).glob(f"{NAME}.*"):
                file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # `submit` has sent the same content under a name of its own
                (_data() / start).rmdir()

    def delete_interrupted(self) -> None:
        """Delete what uploads have left that were killed."""
        for folder in _data().glob(f"{INCOMING}*"):
            with contextlib.suppress(FileNotFoundError):
                if folder.stat().st_mtime < time.time() - DAY:
                    shutil.rmtree(folder, ignore_errors=True)


def content_name(filename: str) -> str:
    """Return the name of a content: the kind of rows and the compression are told by its suffixes."""
    kind, packed = suffixes(filename)
    return f"{NAME}{kind}{packed}"


def start_of(sha256: str) -> str:
    """Return the beginning of a digest after which its content's folder is named."""
    return volumes.sent_data(sha256).name


def _path(sha256: str, filename: str) -> Path:
    return volumes.sent_data(sha256) / content_name(filename)


def _data() -> Path:
    return volumes.runs() / "data"


@contextlib.contextmanager
def _room() -> Iterator[None]:
    """Tell a client that the disk is full, without its path.

    Raises:
        ApiError: it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise ApiError(503, "the server has no room for the file; tell whoever runs it") from error
        raise
