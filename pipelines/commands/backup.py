"""`fineline backup`: save what cannot be made again, and bring it back."""

import argparse

HELP = "save the registry and what else cannot be made again into a folder, and bring it back"
DESCRIPTION = (
    "Save into a new folder, or bring back: the registered models with their versions, adapters, aliases, and runs, and from "
    "the folder of the runs the data and held-out rows, the evaluations, and the runs with their costs. MLFLOW_TRACKING_URI "
    "names the registry, whatever its database."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", choices=("create", "restore"), help="create: write a backup; restore: bring it back")
    parser.add_argument("folder", help="the folder of the backup")


def execute(parsed: argparse.Namespace) -> int:
    """Write a backup, or bring one back.

    Raises:
        UserError: the folder exists already, is no whole backup, or what is restored is there with other content.
    """
    from pathlib import Path

    from steps.backup.bring_back import bring_back
    from steps.backup.create import create_backup

    folder = Path(parsed.folder).expanduser().absolute()
    backup = create_backup(folder) if parsed.action == "create" else bring_back(folder)
    count = sum(len(model.versions) for model in backup.models)
    done = "saved in" if parsed.action == "create" else "restored from"
    print(f"models: {len(backup.models)}, versions: {count}, files: {len(backup.files)}; {done} {folder}")
    return 0
