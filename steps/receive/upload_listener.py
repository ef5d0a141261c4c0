"""Waits for the one upload that knows the token, on this pod's loopback address: only a port-forward reaches it.

The sender writes the token and a line break, and then the file in parts. The listener answers each with a line: `send`, the
bytes that have arrived, and at the end `received`; or `refused` and the reason, and closes the connection.
"""

import hashlib
import hmac
import socket
import time
from collections.abc import Callable
from typing import BinaryIO

from steps.common.runtime.errors import UserError

PORT = 8450
SEND, RECEIVED, REFUSED = "send", "received", "refused"
WAIT_SECONDS = 900.0  # for an upload to begin
SILENT_SECONDS = 60.0  # a connection that sends nothing for this long is closed
LONGEST_TOKEN = 200  # bytes


def digest_of_token(token: str) -> str:
    """Return the SHA-256 of a token in hex; the token itself is in no parameter."""
    return hashlib.sha256(token.encode()).hexdigest()


def take_upload(token_sha256: str, take: Callable[[BinaryIO, Callable[[int], None]], None], port: int = PORT) -> None:
    """Let the first sender that knows the token send, and return when its upload is complete.

    Args:
        token_sha256: SHA-256 of the token, in hex.
        take: reads the upload, and acknowledges each part.
        port: of the loopback address.

    Raises:
        UserError: nobody with the token has connected in 15 minutes, or the upload failed.
    """
    end = time.monotonic() + WAIT_SECONDS
    with socket.create_server(("127.0.0.1", port)) as server:
        while (left := end - time.monotonic()) > 0:
            server.settimeout(left)
            try:
                connection, _ = server.accept()
            except TimeoutError:
                break
            with connection:
                connection.settimeout(SILENT_SECONDS)
                if _serve(connection, token_sha256, take):
                    return
    raise UserError(f"no upload began in {WAIT_SECONDS / 60:.0f} min; send the file again")


def _serve(
    connection: socket.socket, token_sha256: str, take: Callable[[BinaryIO, Callable[[int], None]], None]
) -> bool:
    """Serve one connection; return whether it knew the token."""
    source = connection.makefile("rb")

    def answer(line: str) -> None:
        connection.sendall(f"{line}\n".encode())

    try:
        token = source.readline(LONGEST_TOKEN).rstrip(b"\n").decode("ascii", "replace")
        if not hmac.compare_digest(digest_of_token(token), token_sha256):
            answer(f"{REFUSED} wrong token")
            return False
    except OSError:  # it sent nothing, or has gone
        return False
    try:
        answer(SEND)
        take(source, lambda so_far: answer(str(so_far)))
    except UserError as error:
        answer(f"{REFUSED} {error}")
        raise
    except (TimeoutError, ConnectionError) as error:
        raise UserError(f"the upload broke off: {error}; send the file again") from None
    answer(RECEIVED)
    return True
