"""Opens a data file as a stream of its bytes: decompressed, and in UTF-8 where it is text."""

import bz2
import codecs
import gzip
import io
import shutil
import tempfile
from pathlib import Path
from typing import IO, cast

from steps.common.rows.files.file_kind import suffixes

BUFFER = 1 << 20  # bytes
PACKED_BUFFER = 1 << 16  # bytes, decompressed: what a damaged place costs before it
SAMPLE = 8 << 20  # bytes, decompressed, that tell by how much a file is compressed
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def open_content(path: Path) -> io.BufferedReader:
    """Open a file, and decompress it if its name says that it is compressed.

    What cannot be decompressed is told by the errors of gzip, bz2 and Arrow, while it is read.
    """
    packed = suffixes(path.name)[1]
    return _unpacked(path, packed) if packed else io.BufferedReader(io.FileIO(path), BUFFER)


def content_bytes(path: Path) -> float:
    """Return how many bytes a file has when it is decompressed; of a large one an estimate, by how much its start is."""
    size, packed = path.stat().st_size, suffixes(path.name)[1]
    if not packed:
        return size
    with path.open("rb") as file, _unpacked(file, packed) as content:
        unpacked = len(content.read(SAMPLE))
        return size * unpacked / file.tell()


def _unpacked(file: Path | IO[bytes], packed: str) -> io.BufferedReader:
    if packed == ".zst":
        import pyarrow

        source = pyarrow.OSFile(str(file)) if isinstance(file, Path) else pyarrow.PythonFile(file)
        raw: object = pyarrow.CompressedInputStream(source, "zstd")
    else:
        raw = gzip.open(file) if packed == ".gz" else bz2.open(file)  # noqa: SIM115 - the reader closes it
    return io.BufferedReader(cast(io.RawIOBase, raw), PACKED_BUFFER)


def open_text(path: Path) -> io.BufferedReader:
    """Open a text file as `open_content` does. One in UTF-16, with a byte order mark, is read as UTF-8."""
    content = open_content(path)
    if not content.peek(2).startswith(UTF_16):
        return content
    return io.BufferedReader(_InUtf8(io.TextIOWrapper(content, "utf-16", newline="")), BUFFER)


def decompressed(path: Path) -> IO[bytes]:
    """Decompress a file to a temporary one, in which any place can be read."""
    whole = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with open_content(path) as content:
        shutil.copyfileobj(content, whole, BUFFER)
    whole.seek(0)
    return whole


class _InUtf8(io.RawIOBase):
    """A text stream as bytes in UTF-8."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text, self._left = text, b""

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, target: object) -> int:
        """Fill a part of the buffer; 0 at the end."""
        into = memoryview(cast(bytearray, target))
        if not self._left:
            self._left = self._text.read(BUFFER // 4).encode()
        part, self._left = self._left[: len(into)], self._left[len(into) :]
        into[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Close the text stream too."""
        self._text.close()
        super().close()
