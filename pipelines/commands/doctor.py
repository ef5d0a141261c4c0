"""`fineline doctor`: whether a namespace of a cluster has all that a run needs."""

import dataclasses
import json

from rich.console import Console

from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor import argo, gpu_provider, hardware, permissions, secret_settings, volume_claims
from pipelines.cluster.doctor.finding import Finding, State
from pipelines.shown.shell_command import shell_command

MARKS = {State.OK: "[green]✔[/]", State.NOTE: "[dim]·[/]", State.UNKNOWN: "[yellow]?[/]", State.MISSING: "[red]✘[/]"}
SOMETHING_MISSING = 2


def doctor(connection: Connection, secrets: str, *, as_json: bool) -> int:
    """Look at everything, and print what was found with what to do; 2 where a run would fail.

    Args:
        connection: the cluster.
        secrets: begin of the Secrets' names, as the recipe has it.
        as_json: print JSON.

    Raises:
        UserError: the cluster is out of reach.
    """
    found = examine(connection, secrets)
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2))
    else:
        _show(connection, found)
    return SOMETHING_MISSING if any(finding.state is State.MISSING for finding in found) else 0


def examine(connection: Connection, secrets: str) -> list[Finding]:
    """Return what was found, from the ground up; what stands on something that is missing is not looked at."""
    found = argo.cluster(connection)
    if any(finding.state is State.MISSING for finding in found):
        return found
    found += argo.definitions(connection)
    if any(finding.state is State.MISSING for finding in found):
        return found
    for look in (
        argo.controller,
        argo.templates,
        permissions.user,
        permissions.accounts,
        volume_claims.claims,
        hardware.gpus,
        gpu_provider.provider,
        hardware.images,
        hardware.quotas,
        secret_settings.tracking,
    ):
        found += look(connection)
    return found + secret_settings.secrets(connection, secrets)


def _show(connection: Connection, found: list[Finding]) -> None:
    # Line by line and unwrapped: what is to be done is there to be copied.
    console = Console(highlight=False, soft_wrap=True)
    for finding in found:
        console.print(f"{MARKS[finding.state]} [bold]{finding.subject}[/]: ", end="")
        console.print(finding.text, markup=False)
        if finding.remedy:
            console.print(f"    {finding.remedy}", markup=False)
    missing = sum(finding.state is State.MISSING for finding in found)
    submit = shell_command(f"fineline submit -n {connection.namespace} --watch")
    console.print(f"{missing} missing" if missing else f"ready: {submit}")
