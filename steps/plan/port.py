"""Whether the server will find its port free."""

import errno
import socket

from recipes.recipe import Recipe
from steps.common.machine import servers
from steps.common.runtime.errors import UserError


def check_port(recipe: Recipe) -> None:
    """Refuse a port that another program listens on; the model's own gateway is meant to hold it.

    Raises:
        UserError: the port is taken, or the address is none of this machine's.
    """
    host, port = recipe.serve.host, recipe.serve.port
    if port is None:
        return
    own = servers.gateway(recipe.name)
    if own and own.process.port == port:
        return
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        others = [g for n in servers.names() if (g := servers.gateway(n)) and g.process.port == port]
        holder = f"the server of {others[0].name!r}" if others else "another program"
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"serve.port: {port} is in use by {holder}; set another one, e.g. -o serve.port={port + 1}"
            ) from None
        raise UserError(f"serve.host: cannot listen on {host}:{port}: {error.strerror or error}") from None
