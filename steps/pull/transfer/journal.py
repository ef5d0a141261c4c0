"""Which bytes of a file are there, written down as they come, so that after a kill none of them is fetched again.

A line is appended for every span that has been written. After a process was killed its writes are in the kernel's hands
all the same, so every line holds. After a machine was lost only that holds which was on the disk by then: lines before the
last `synced`. Which of the two it was is told by the kernel's boot id. What a wrong line would let through, the file's hash
does not.
"""

import json
import os
from pathlib import Path

from steps.common.storage.files import write_text
from steps.pull.transfer.spans import Spans

DONE = "done "
BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return what names this boot of this machine; empty where the kernel does not tell."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""


class Journal:
    """The journal of one file, open for appending."""

    def __init__(self, path: Path, identity: str) -> None:
        """Open the journal, and read what an earlier attempt at the same content has left.

        Args:
            path: the journal's file.
            identity: of the content: spans of another are of no use.
        """
        self._path, self._identity = path, identity
        self.spans = self._left()
        self._begin()

    def add(self, start: int, end: int) -> None:
        """Write down that the bytes from `start` to `end` have been written."""
        self.spans.add(start, end)
        self._length += os.write(self._file, f"{start} {end}\n".encode())

    @property
    def length(self) -> int:
        """Bytes of the journal itself: what `synced` says has come to the disk."""
        return self._length

    def synced(self, length: int) -> None:
        """Write down that all which its first `length` bytes tell of is on the disk."""
        self._length += os.write(self._file, f"synced {length}\n".encode())
        os.fdatasync(self._file)

    def done(self, sha256: str) -> None:
        """Write down that the file is whole and on the disk, and its hash."""
        self._length += os.write(self._file, f"{DONE}{sha256}\n".encode())
        os.fdatasync(self._file)

    def restart(self) -> None:
        """Forget everything."""
        self.spans, before = Spans(), self._file
        self._begin()
        os.close(before)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _begin(self) -> None:
        header = json.dumps({"identity": self._identity, "boot": boot_id()})
        lines = [header, *(f"{start} {end}" for start, end in self.spans)]
        write_text(self._path, "\n".join(lines) + "\n")
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._length = os.fstat(self._file).st_size

    def _left(self) -> Spans:
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return Spans()
        whole = text[: text.rfind(b"\n") + 1]  # the last line may have been cut off
        try:
            header = json.loads(whole.partition(b"\n")[0])
            if header["identity"] != self._identity:
                return Spans()
            if not header["boot"] or header["boot"] != boot_id():
                whole = whole[: _synced(whole)]
            return Spans(_span(line) for line in whole.splitlines()[1:] if not line.startswith((b"synced", b"done")))
        except (ValueError, KeyError, TypeError):
            return Spans()


def done(path: Path, identity: str) -> str:
    """Return the hash with which a journal of that content ends; empty where there is none, or it does not end."""
    try:
        header, *lines = path.read_text().splitlines()
        told = json.loads(header)["identity"] == identity and lines and lines[-1].startswith(DONE)
        return lines[-1].removeprefix(DONE) if told else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _synced(journal: bytes) -> int:
    told = [line for line in journal.splitlines() if line.startswith(b"synced ")]
    return int(told[-1].split()[1]) if told else 0


def _span(line: bytes) -> tuple[int, int]:
    start, end = line.split()
    return int(start), int(end)
