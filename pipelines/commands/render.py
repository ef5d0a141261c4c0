"""`fineline render`: write the cluster manifests from the code, or check them."""

import argparse

HELP = "write the cluster manifests from the code, or check them"
DESCRIPTION = "Write the manifests of a cluster's workflows from the code, or check that the files match the code."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folder", nargs="?", default="argo", help="folder of the manifests (default: argo)")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 2 if a file does not match the code"
    )


def execute(parsed: argparse.Namespace) -> int:
    """Write or check the manifests.

    Raises:
        UserError: with --check, a file does not match; or the folder cannot be written.
    """
    from pathlib import Path

    from pipelines.shown.shell_command import shell_command
    from pipelines.workflows.rendered import differences, write
    from steps.common.runtime.errors import UserError

    folder = Path(parsed.folder)
    if parsed.check:
        if found := differences(folder):
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise UserError(f"{found[0]}{more}; run: {shell_command('fineline render')}")
        return 0
    try:
        for path in write(folder):
            print(path)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written: {error.strerror}") from None
    return 0
