"""`fineline render`: write the cluster manifests and the recipe reference from the code, or check them."""

import argparse

HELP = "write the cluster manifests and docs/recipe.md from the code, or check them"
DESCRIPTION = (
    "Write the manifests of a cluster's workflows from the code, or check that the files match the code. In argo, the "
    "default folder, the recipe reference docs/recipe.md is included."
)
MANIFESTS = "argo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "folder",
        nargs="?",
        default=MANIFESTS,
        help=f"folder of the manifests (default: {MANIFESTS}); another one gets no recipe reference",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 2 if a file does not match the code"
    )


def execute(parsed: argparse.Namespace) -> int:
    """Write or check the files.

    Raises:
        UserError: with --check, a file does not match; or a file cannot be written.
    """
    from pathlib import Path

    from pipelines.shown import recipe_reference
    from pipelines.shown.shell_command import shell_command
    from pipelines.workflows import rendered
    from steps.common.runtime.errors import UserError

    folder = Path(parsed.folder)
    with_reference = folder == Path(MANIFESTS)
    if parsed.check:
        found = rendered.differences(folder) + (recipe_reference.differences() if with_reference else [])
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise UserError(f"{found[0]}{more}; run: {shell_command('fineline render')}")
        return 0
    try:
        for path in rendered.write(folder) + (recipe_reference.write() if with_reference else []):
            print(path)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be written: {error.strerror}") from None
    return 0
