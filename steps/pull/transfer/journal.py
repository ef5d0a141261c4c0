"""The journal of a file: which of its bytes have been written, so that none is fetched again after a kill.

Each span that is written adds a line. When a process is killed, the kernel still writes its data, so all lines hold. When a
machine is lost, only what had been flushed holds: the lines before the last `synced`. The kernel's boot id tells the two
cases apart. Should a line be wrong nevertheless, the file's hash will show it.
"""

import json
import os
from pathlib import Path

from steps.common.storage.files import write_text
from steps.pull.transfer.spans import Spans

DONE = "done "
SCHEMA = 1  # of the lines; a journal of a later one is not believed, and its file is fetched again
BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return the id of this boot of the machine; empty if the kernel does not provide it."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""


class Journal:
    """The journal of one file, open for appending."""

    def __init__(self, path: Path, identity: str) -> None:
        """Open the journal, and read the spans that an earlier attempt has written.

        Args:
            path: the journal's file.
            identity: identity of the content; spans of another content are dropped.
        """
        self._path, self._identity = path, identity
        self.spans = self._left()
        self._begin()

    def add(self, start: int, end: int) -> None:
        """Record that the bytes from `start` to `end` have been written."""
        self.spans.add(start, end)
        self._length += os.write(self._file, f"{start} {end}\n".encode())

    @property
    def length(self) -> int:
        """Length of the journal in bytes, for `synced`."""
        return self._length

    def synced(self, length: int) -> None:
        """Record that the spans in the first `length` bytes of the journal have been flushed to disk."""
        self._length += os.write(self._file, f"synced {length}\n".encode())
        os.fdatasync(self._file)

    def done(self, sha256: str) -> None:
        """Record that the file is complete and on disk, and its hash."""
        self._length += os.write(self._file, f"{DONE}{sha256}\n".encode())
        os.fdatasync(self._file)

    def restart(self) -> None:
        """Drop all spans."""
        self.spans, before = Spans(), self._file
        self._begin()
        os.close(before)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _begin(self) -> None:
        header = json.dumps({"schema_version": SCHEMA, "identity": self._identity, "boot": boot_id()})
        lines = [header, *(f"{start} {end}" for start, end in self.spans)]
        write_text(self._path, "\n".join(lines) + "\n")
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._length = os.fstat(self._file).st_size

    def _left(self) -> Spans:
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return Spans()
        whole = text[: text.rfind(b"\n") + 1]  # the last line may be incomplete
        try:
            header = json.loads(whole.partition(b"\n")[0])
            if header["identity"] != self._identity or header.get("schema_version", 0) > SCHEMA:
                return Spans()
            if not header["boot"] or header["boot"] != boot_id():
                whole = whole[: _synced(whole)]
            return Spans(_span(line) for line in whole.splitlines()[1:] if not line.startswith((b"synced", b"done")))
        except (ValueError, KeyError, TypeError):
            return Spans()


def done(path: Path, identity: str) -> str:
    """Return the hash with which the journal of a finished file ends; empty if there is no such journal."""
    try:
        header, *lines = path.read_text().splitlines()
        first = json.loads(header)
        known = first["identity"] == identity and first.get("schema_version", 0) <= SCHEMA
        finished = known and lines and lines[-1].startswith(DONE)
        return lines[-1].removeprefix(DONE) if finished else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _synced(journal: bytes) -> int:
    synced = [line for line in journal.splitlines() if line.startswith(b"synced ")]
    return int(synced[-1].split()[1]) if synced else 0


def _span(line: bytes) -> tuple[int, int]:
    start, end = line.split()
    return int(start), int(end)
