"""`fineline doctor`: check that a namespace of a cluster has everything that a run needs."""

import argparse
from typing import TYPE_CHECKING

from pipelines.shown.arguments import add_cluster, add_json

if TYPE_CHECKING:
    from pipelines.cluster.connection import Connection
    from pipelines.cluster.doctor.finding import Finding

HELP = "check that a cluster has everything that a run needs"
DESCRIPTION = (
    "Check that a namespace of a cluster has everything that a run needs, and print a remedy for whatever is missing. "
    "Exit with 2 if something is missing."
)
SOMETHING_MISSING = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_cluster(parser)
    add_json(parser)
    parser.add_argument(
        "--secrets",
        default="fineline",
        metavar="PREFIX",
        help="prefix of the Secrets' names, as in the recipe's key secrets (default: fineline)",
    )


def execute(parsed: argparse.Namespace) -> int:
    """Check everything and print the findings.

    Raises:
        UserError: the cluster is unreachable.
    """
    import dataclasses
    import json

    from pipelines.cluster.connection import Connection
    from pipelines.cluster.doctor.finding import State

    connection = Connection(parsed.namespace, parsed.context)
    found = examine(connection, parsed.secrets)
    if parsed.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2))
    else:
        _show(connection, found)
    return SOMETHING_MISSING if any(finding.state is State.MISSING for finding in found) else 0


def examine(connection: "Connection", secrets: str) -> "list[Finding]":
    """Return the findings, fundamentals first; checks that depend on something missing are left out.

    Args:
        connection: the cluster.
        secrets: prefix of the Secrets' names.
    """
    from pipelines.cluster.doctor import (
        admission,
        api_server,
        argo,
        gpu_provider,
        hardware,
        permissions,
        secret_settings,
        volume_claims,
    )
    from pipelines.cluster.doctor.finding import State

    found = argo.cluster(connection)
    if any(finding.state is State.MISSING for finding in found):
        return found
    found += argo.definitions(connection)
    if any(finding.state is State.MISSING for finding in found):
        return found
    for check in (
        argo.controller,
        argo.templates,
        permissions.user,
        permissions.accounts,
        admission.admission,
        api_server.api_server,
        volume_claims.claims,
        hardware.gpus,
        gpu_provider.provider,
        hardware.images,
        hardware.quotas,
        secret_settings.tracking,
    ):
        found += check(connection)
    return found + secret_settings.secrets(connection, secrets)


def _show(connection: "Connection", found: "list[Finding]") -> None:
    from rich.console import Console

    from pipelines.cluster.doctor.finding import State
    from pipelines.shown.shell_command import shell_command

    marks = {
        State.OK: "[green]✔[/]",
        State.NOTE: "[dim]·[/]",
        State.UNKNOWN: "[yellow]?[/]",
        State.MISSING: "[red]✘[/]",
    }
    # Line by line and unwrapped, so that remedies can be copied.
    console = Console(highlight=False, soft_wrap=True)
    for finding in found:
        console.print(f"{marks[finding.state]} [bold]{finding.subject}[/]: ", end="")
        console.print(finding.text, markup=False)
        if finding.remedy:
            console.print(f"    {finding.remedy}", markup=False)
    missing = sum(finding.state is State.MISSING for finding in found)
    submit = shell_command(f"fineline submit -n {connection.namespace} --watch")
    console.print(f"{missing} missing" if missing else f"ready: {submit}")
