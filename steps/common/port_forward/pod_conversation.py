"""One connection between a command and a step: lines of text, and bytes whose number a line has announced."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from steps.common.runtime.errors import UnreachableError, UserError

REFUSED = "refused"  # and the reason: the other end goes no further
UNREACHABLE = "unreachable"  # and the reason: the same, for something that the other end needs did not answer
WORKING = "working"  # the other end is busy; without a word, a proxy on the way may close the connection
WORKING_SECONDS = 15.0
SILENT_SECONDS = 600.0  # a connection on which nothing comes or goes for this long is broken
LEAVE_SECONDS = 10.0  # for the other end to close a connection that was refused
LONGEST_LINE = 8192  # bytes
BLOCK = 1 << 16  # bytes


class RefusedByOtherEndError(UserError):
    """The other end goes no further; the text is its reason."""


class PodConversation:
    """What is said on a connection. A method raises an OSError where the connection is broken."""

    def __init__(self, connection: socket.socket) -> None:
        self.source = connection.makefile("rb")
        self._connection = connection
        self._lock = threading.Lock()

    def be_patient(self) -> None:
        """Wait from now on as long as the other end may work."""
        self._connection.settimeout(SILENT_SECONDS)

    def tell(self, line: str, data: bytes = b"") -> None:
        """Send a line, and the bytes that it announces."""
        with self._lock:
            self._connection.sendall(f"{line}\n".encode() + data)

    def send(self, data: bytes) -> None:
        """Send bytes that need no announcement."""
        with self._lock:
            self._connection.sendall(data)

    def refuse(self, reason: str, *, unreachable: bool = False) -> None:
        """Tell the other end why this one goes no further, and wait until it has closed the connection.

        What the other end is still sending is dropped: a connection that is closed before that loses the reason too.

        Args:
            reason: in one line.
            unreachable: whether something did not answer, so that it may work later.
        """
        with contextlib.suppress(OSError):
            word = UNREACHABLE if unreachable else REFUSED
            self.tell(f"{word} {' '.join(reason.split())[: LONGEST_LINE // 8]}")
            self._connection.settimeout(LEAVE_SECONDS)
            end = time.monotonic() + LEAVE_SECONDS
            while time.monotonic() < end and self.source.read(BLOCK):
                pass

    def hear(self) -> str:
        """Return the next line.

        Raises:
            RefusedByOtherEndError: the other end goes no further.
            UnreachableError: the other end goes no further, because something that it needs did not answer.
            ConnectionError: the connection was closed, or what comes is no line.
        """
        while (line := self.source.readline(LONGEST_LINE)).endswith(b"\n"):
            text = line.decode("utf-8", "replace").strip()
            if text.startswith(REFUSED):
                raise RefusedByOtherEndError(text.removeprefix(REFUSED).strip())
            if text.startswith(UNREACHABLE):
                raise UnreachableError(text.removeprefix(UNREACHABLE).strip())
            if text != WORKING:
                return text
        raise ConnectionError("it was closed by the other end")

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Tell the other end every 15 seconds that this one works, until the block ends."""
        ended = threading.Event()

        def tell() -> None:
            with contextlib.suppress(OSError):  # which the block meets too
                while not ended.wait(WORKING_SECONDS):
                    self.tell(WORKING)

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
