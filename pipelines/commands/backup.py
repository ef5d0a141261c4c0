"""`fineline backup`: save what cannot be made again, and bring it back, on this machine or on a cluster."""

import argparse
from typing import TYPE_CHECKING

from pipelines.shown.arguments import add_cluster

if TYPE_CHECKING:
    from pathlib import Path

    from steps.backup.saved import Backup

HELP = "save the registry and what else cannot be made again into a folder, and bring it back, here or on a cluster"
DESCRIPTION = (
    "Save into a new folder of this machine, or bring back: the registered models with their versions, adapters, aliases, and "
    "runs; from the folder of the runs the data and held-out rows, the evaluations, and the runs with their costs; the teams "
    "of OpenAI's API with their keys, if they are in SQLite. With -n or --context, those of a namespace. Without, those of "
    "this machine; MLFLOW_TRACKING_URI names its registry, whatever the database."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", choices=("create", "restore"), help="create: write a backup; restore: bring it back")
    parser.add_argument("folder", help="the folder of the backup, on this machine")
    add_cluster(parser)


def execute(parsed: argparse.Namespace) -> int:
    """Write a backup, or bring one back: of this machine, or of the namespace if one or a context is given.

    Raises:
        UserError: the folder exists already, is no whole backup, what is restored is there with other content, a disk is full,
            or the cluster refuses.
    """
    from pathlib import Path

    folder = Path(parsed.folder).expanduser().absolute()
    on_a_cluster = parsed.namespace or parsed.context
    backup = _on_a_cluster(parsed, folder) if on_a_cluster else _here(parsed, folder)
    done = "saved in" if parsed.action == "create" else "restored from"
    print(f"{backup.in_words()}; {done} {folder}")
    if parsed.action == "restore":
        _say_how_to_serve(parsed, backup)
    return 0


def _here(parsed: argparse.Namespace, folder: "Path") -> "Backup":
    from steps.backup.bring_back import bring_back
    from steps.backup.create import create_backup

    return create_backup(folder) if parsed.action == "create" else bring_back(folder)


def _on_a_cluster(parsed: argparse.Namespace, folder: "Path") -> "Backup":
    from pipelines.cluster.argo_server import connect
    from pipelines.cluster.transfer.namespace_backup import fetch_backup, send_backup
    from steps.backup.create import check_new
    from steps.backup.saved import read_backup

    if parsed.action == "create":
        check_new(folder)
        return fetch_backup(connect(parsed.namespace, parsed.context), folder)
    backup = read_backup(folder)
    send_backup(connect(parsed.namespace, parsed.context), folder, backup)
    return backup


def _say_how_to_serve(parsed: argparse.Namespace, backup: "Backup") -> None:
    from pipelines.shown.shell_command import shell_command
    from steps.common.registry.versions import CHAMPION

    place = "".join(
        f" {option} {value}" for option, value in (("-n", parsed.namespace), ("--context", parsed.context)) if value
    )
    for model in backup.models:
        if number := model.aliases.get(CHAMPION):
            command = shell_command(f"fineline rollback {model.name} --version {number}{place}")
            print(f"{model.name}: version {number} was the champion; to serve it: {command}")
