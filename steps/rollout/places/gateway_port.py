"""Choose the port that a model's gateway listens on."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from steps.common.machine import servers
from steps.common.runtime.errors import RefusedError
from steps.common.runtime.progress import say
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.storage.files import exclusive_lock

FIRST_PORT = 8360
PORTS = 100  # to try, starting with FIRST_PORT


@contextmanager
def gateway_port(name: str, host: str, wanted: int | None) -> Iterator[int]:
    """Yield the port for a model's new gateway.

    Without `wanted`, other rollouts wait to choose theirs until the block ends: by then the gateway listens on the port.

    Args:
        name: of the model.
        host: the address to listen on.
            wanted: the recipe's `serve.port`. None: the port that the model had last if it is free, else the first free one.

    Raises:
        RefusedError: no port is free, or this machine does not have the address.
    """
    if wanted is not None:
        yield wanted
        return
    line = WaitingLine()
    choosing = volumes.serving(name).parent / "ports"
    with exclusive_lock(choosing, on_wait=lambda: line.report("another model's gateway to start")):
        yield _choose(name, host)


def _choose(name: str, host: str) -> int:
    last = servers.last_port(name)
    candidates = range(FIRST_PORT, FIRST_PORT + PORTS)
    for port in [last, *candidates] if last else candidates:
        if _free(host, port):
            if port != (last or FIRST_PORT):
                say(f"port {last or FIRST_PORT} is in use; {name} is served on port {port}")
            return port
    raise RefusedError(
        f"{name}: ports {FIRST_PORT} to {candidates[-1]} on {host} are all in use; stop a model with "
        "`fineline serving stop NAME`, or name a free port with -o serve.port=PORT"
    )


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise RefusedError(f"serve.host: cannot listen on {host}:{port}: {error.strerror or error}") from None
        return True
