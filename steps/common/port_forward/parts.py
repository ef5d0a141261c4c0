"""A stream of unknown length in parts: `part BYTES` and the bytes, each answered with the total; then `end SHA256`.

The sender waits for each answer, since Kubernetes' client keeps in memory what is sent and not yet passed on: with parts of
4 MiB, no end holds more than a few of them, however much is sent.
"""

import hashlib

from steps.common.port_forward.pod_conversation import PodConversation
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import Progress

PART = 4 << 20  # bytes
OF_PART, OF_END = "part", "end"


class PartWriter:
    """A file to write to: what is written is sent. `finish` sends the rest and the digest of all of it."""

    def __init__(self, conversation: PodConversation, progress: Progress | None = None) -> None:
        """Begin.

        Args:
            conversation: with whoever reads.
            progress: is told the MiB so far.
        """
        self._conversation, self._progress = conversation, progress
        self._waiting = bytearray()
        self._digest = hashlib.sha256()
        self._sent = 0

    def write(self, data: bytes) -> int:
        """Send the data, or keep it until a part is full.

        Raises:
            UserError: the reader refuses.
            OSError: the connection is broken.
        """
        self._waiting += data
        while len(self._waiting) >= PART:
            self._send(bytes(self._waiting[:PART]))
            del self._waiting[:PART]
        return len(data)

    def finish(self) -> None:
        """Send what is left, and the end; errors as for `write`."""
        if self._waiting:
            self._send(bytes(self._waiting))
            self._waiting.clear()
        self._conversation.tell(f"{OF_END} {self._digest.hexdigest()}")

    def _send(self, part: bytes) -> None:
        self._conversation.tell(f"{OF_PART} {len(part)}", part)
        self._digest.update(part)
        self._sent += len(part)
        if (answer := self._conversation.hear()) != str(self._sent):
            raise ConnectionError(f"{self._sent} bytes were sent, and the answer is {answer!r}")
        if self._progress:
            self._progress.update(self._sent >> 20)


class PartReader:
    """A file to read from: what arrives."""

    def __init__(self, conversation: PodConversation, progress: Progress | None = None) -> None:
        """Begin; arguments as for `PartWriter`."""
        self._conversation, self._progress = conversation, progress
        self._left = b""
        self._digest = hashlib.sha256()
        self._received = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """Return at most so many bytes; none at the end.

        Raises:
            UserError: the writer refuses, or what arrived is not what was sent.
            OSError: the connection is broken.
        """
        if not self._left and not self._ended:
            self._left = self._next()
        found, self._left = self._left[:size], self._left[size:]
        return found

    def finish(self) -> None:
        """Read the rest and drop it: only then is all of it known to be what was sent; errors as for `read`."""
        while self.read(PART):
            pass

    def _next(self) -> bytes:
        kind, _, value = self._conversation.hear().partition(" ")
        if kind == OF_END:
            self._ended = True
            if value != self._digest.hexdigest():
                raise UserError("it changed on its way; run the command again")
            return b""
        if kind != OF_PART or not value.isdecimal() or not 0 < int(value) <= PART:
            raise ConnectionError(f"what came is neither a part nor the end: {kind[:40]!r}")
        part = self._conversation.source.read(int(value))
        if len(part) < int(value):
            raise ConnectionError("it was closed by the other end")
        self._digest.update(part)
        self._received += len(part)
        self._conversation.tell(str(self._received))
        if self._progress:
            self._progress.update(self._received >> 20)
        return part
