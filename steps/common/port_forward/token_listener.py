"""Waits for the one connection that knows the token, on this pod's loopback address: only a port-forward reaches it.

Whoever connects writes the token and a line break. The listener answers `send`, or `refused` and the reason, after which it
closes the connection. What both say then is each step's own.
"""

import hashlib
import hmac
import socket
import time
from collections.abc import Callable

from steps.common.port_forward.pod_conversation import REFUSED, PodConversation
from steps.common.runtime.errors import UnreachableError, UserError
from steps.common.runtime.exit_codes import in_one_line
from steps.common.runtime.redaction import redact

PORT = 8450
SEND = "send"
WAIT_SECONDS = 900.0  # for somebody to connect
TOKEN_SECONDS = 60.0  # a connection that sends no token for this long is closed
LONGEST_TOKEN = 200  # bytes


def digest_of_token(token: str) -> str:
    """Return the SHA-256 of a token in hex; the token itself is in no parameter."""
    return hashlib.sha256(token.encode()).hexdigest()


def listen_once(token_sha256: str, talk: Callable[[PodConversation], None], port: int = PORT) -> None:
    """Talk to the first that connects and knows the token, and return.

    Args:
        token_sha256: SHA-256 of the token, in hex.
        talk: does the work of the step. What it raises is told to the other end too.
        port: of the loopback address.

    Raises:
        UserError: nobody with the token has connected in 15 minutes, or the connection broke off.
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
                connection.settimeout(TOKEN_SECONDS)
                if _serve(PodConversation(connection), token_sha256, talk):
                    return
    raise UserError(f"nobody has connected in {WAIT_SECONDS / 60:.0f} min; run the command again")


def _serve(conversation: PodConversation, token_sha256: str, talk: Callable[[PodConversation], None]) -> bool:
    """Serve one connection; return whether it knew the token."""
    try:
        token = conversation.source.readline(LONGEST_TOKEN).rstrip(b"\n").decode("ascii", "replace")
        if not hmac.compare_digest(digest_of_token(token), token_sha256):
            conversation.tell(f"{REFUSED} wrong token")
            return False
    except OSError:  # it sent nothing, or has gone
        return False
    try:
        conversation.be_patient()
        conversation.tell(SEND)
        talk(conversation)
    except (TimeoutError, ConnectionError) as error:
        raise UserError(f"the connection broke off: {error}; run the command again") from None
    except Exception as error:
        conversation.refuse(redact(in_one_line(error)), unreachable=isinstance(error, UnreachableError))
        raise
    return True
