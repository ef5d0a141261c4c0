"""Checks that the server can listen on the recipe's address."""

import errno
import socket

from recipes.recipe import Recipe
from steps.common.machine import servers
from steps.common.runtime.errors import UserError


def check_port(recipe: Recipe) -> None:
    """Refuse an address that the server cannot listen on.

    The model's own gateway may hold the port. Without `serve.port` the rollout chooses a free one, so only the host is checked.

    Raises:
        UserError: another program listens on the port, or the host is not an address of this machine.
    """
    host, port = recipe.serve.host, recipe.serve.port or 0
    own = servers.gateway(recipe.name)
    if own and own.process.port == port:
        return
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            others = [g for n in servers.names() if (g := servers.gateway(n)) and g.process.port == port]
            holder = f"the server of {others[0].name!r}" if others else "another program"
            raise UserError(
                f"serve.port: {port} is in use by {holder}; leave serve.port out to get a free port, or set another one"
            ) from None
        raise UserError(
            f"serve.host: cannot listen on {host}{f':{port}' if port else ''}: {error.strerror or error}"
        ) from None
