"""`fineline serving`: list or stop the models that this machine serves."""

import argparse
import json
import time

from pipelines.shown.arguments import add_json

HELP = "list or stop the models served on this machine"
DESCRIPTION = (
    "List the models served on this machine, stop one, or delete the files of versions that a rollout refused."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's actions with their arguments."""
    actions = parser.add_subparsers(dest="action", metavar="list|stop|clean")
    listing = "list the models served on this machine (the default)"
    add_json(actions.add_parser("list", help=listing, description=listing.capitalize() + "."))
    stopping = "stop serving a model; its versions stay registered"
    stop = actions.add_parser("stop", help=stopping, description=stopping.capitalize() + ".")
    stop.add_argument("name", nargs="?", default="", help="name of the model (default: the only one served)")
    cleaning = "delete the logs and files of versions that a rollout refused"
    clean = actions.add_parser("clean", help=cleaning, description=cleaning.capitalize() + ".")
    clean.add_argument("name", nargs="?", default="", help="name of the model (default: all models)")


def execute(parsed: argparse.Namespace) -> int:
    """List, stop or clean.

    Raises:
        UserError: there is no such model, or the one to stop is not named where there are several.
    """
    if parsed.action == "stop":
        return _stop(parsed.name)
    if parsed.action == "clean":
        return _clean(parsed.name)
    return _list(as_json=getattr(parsed, "json", False))


def _list(*, as_json: bool) -> int:
    from pipelines.machine.run_result import served_line
    from pipelines.shown.shell_command import shell_command
    from pipelines.shown.table import print_table
    from steps.common.machine import servers

    found = [(gateway, servers.server(name)) for name in servers.names() if (gateway := servers.gateway(name))]
    refused = {name: version for name in servers.names() if (version := servers.refused(name))}
    if as_json:
        listed = [
            {
                "name": gateway.name,
                "url": gateway.url,
                "server": server.model_dump() if server else None,
                "refused": refused[gateway.name].model_dump() if gateway.name in refused else None,
            }
            for gateway, server in found
        ]
        print(json.dumps(listed, indent=2))
        return 0
    if found:
        columns = ["model", "version", "url", "state"]
        print_table("served models", columns, [served_line(g, s, time.time()) for g, s in found])
        for server in (s for _, s in found if s):
            # Outside the table, whose columns a narrow terminal would break.
            lineage = f"adapter {server.adapter_sha256[:12]}, run {server.run}, base {server.base}"
            print(f"{server.name} version {server.version}: {lineage}")
    else:
        print(f"no models are served; '{shell_command('fineline run')}' tunes a model and serves it")
    for name, version in refused.items():
        print(f"{name} version {version.version} was refused: {version.reason}")
        delete = shell_command(f"fineline serving clean {name}")
        print(f"its log and server command are in {version.folder}; delete them with: {delete}")
    return 0


def _stop(name: str) -> int:
    from steps.common.machine import servers
    from steps.common.runtime.errors import UserError

    served = [known for known in servers.names() if servers.gateway(known) or servers.server(known)]
    if not served:
        raise UserError(f"model {name!r} is not served; no models are" if name else "no models are served")
    if not name and len(served) > 1:
        raise UserError(f"several models are served; name the one to stop: {', '.join(served)}")
    name = name or served[0]
    if name not in served:
        raise UserError(f"model {name!r} is not served; served models: {', '.join(served)}")
    servers.stop(name)
    print(f"stopped {name}; its versions stay registered")
    return 0


def _clean(name: str) -> int:
    from steps.common.machine import servers
    from steps.common.runtime.errors import UserError

    cleaned = [known for known in servers.names() if name in ("", known) and servers.forget_refused(known)]
    if name and not cleaned:
        raise UserError(f"model {name!r} has no refused version to clean up")
    print(f"deleted the refused versions of: {', '.join(cleaned)}" if cleaned else "no refused versions to clean up")
    return 0
