"""Where a backup is written to: a folder, or a stream in tar's form that is made while it is sent."""

import shutil
import tarfile
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Protocol, cast

from steps.backup.steady_read import SteadyContent

BLOCK = 1 << 20  # bytes


class BackupTarget(Protocol):
    """Takes the files of a backup. The same name again replaces what it had."""

    def add(self, name: str, content: SteadyContent) -> None:
        """Write a file."""

    def add_text(self, name: str, text: str) -> None:
        """Write a text as a file."""


class FolderTarget:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, content: SteadyContent) -> None:
        """Write a file."""
        path = self._path(name)
        with path.open("wb") as out:
            shutil.copyfileobj(content, out, BLOCK)

    def add_text(self, name: str, text: str) -> None:
        """Write a text as a file."""
        self._path(name).write_text(text, encoding="utf-8")

    def _path(self, name: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class StreamTarget:
    """A stream: a file-like object with `write`. Whoever reads it keeps the last file of a name.

    As a context manager, it writes the end of the archive, unless the block fails.
    """

    def __init__(self, stream: Any) -> None:
        self._valve = _Valve(stream)
        self._tar = tarfile.open(  # noqa: SIM115 - `__exit__` closes it
            fileobj=cast(Any, self._valve), mode="w|", bufsize=BLOCK, format=tarfile.PAX_FORMAT
        )

    def add(self, name: str, content: SteadyContent) -> None:
        """Send a file."""
        self._add(name, content.size, cast(IO[bytes], content))

    def add_text(self, name: str, text: str) -> None:
        """Send a text as a file."""
        data = text.encode()
        self._add(name, len(data), BytesIO(data))

    def __enter__(self) -> "StreamTarget":
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        self._valve.open = failed is None
        self._tar.close()
        self._valve.open = False

    def _add(self, name: str, size: int, content: IO[bytes]) -> None:
        header = tarfile.TarInfo(name)
        header.size, header.mode = size, 0o644
        self._tar.addfile(header, content)


class _Valve:
    """Passes on what is written until it is closed: tarfile writes what it has kept back even when it is thrown away."""

    def __init__(self, stream: Any) -> None:
        self.open = True
        self._stream = stream

    def write(self, data: bytes) -> int:
        if self.open:
            self._stream.write(data)
        return len(data)
