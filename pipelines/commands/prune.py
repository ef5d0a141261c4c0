"""`fineline prune`: free the disk of what nothing needs any more, on this machine or on a cluster."""

import argparse

from pipelines.shown.arguments import add_cluster

HELP = "delete what nothing needs any more and what can be made again, here or on a cluster"
DESCRIPTION = (
    "Delete merged models, tunings, prepared rows and restored versions that were not used for a while and that no server, no "
    "kept version and no run needs. Data, exports, reports and the registry stay. Without -n and --context, on this machine."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--dry-run", action="store_true", help="only print what would be deleted, and its size")
    parser.add_argument(
        "--keep",
        metavar="N",
        default="",
        help="keep each model's N latest versions (default: the setting FINELINE_PRUNE_KEEP, else 3)",
    )
    parser.add_argument(
        "--days",
        metavar="N",
        default="",
        help="keep what was used in the last N days (default: the setting FINELINE_PRUNE_DAYS, else 7)",
    )
    add_cluster(parser)


def execute(parsed: argparse.Namespace) -> int:
    """Prune this machine, or the namespace if one or a context is given.

    Raises:
        UserError: --keep or --days is not a number, the registry does not answer, or something cannot be deleted.
    """
    from steps.common.runtime.errors import UnreachableError, UserError

    for option in ("keep", "days"):
        value = getattr(parsed, option)
        if value and not value.isdigit():
            raise UserError(f"--{option}: {value!r} is not a whole number")
    given = {"keep": parsed.keep, "days": parsed.days, "dry_run": "true" if parsed.dry_run else "false"}
    if parsed.namespace or parsed.context:
        return _on_a_cluster(parsed, given)
    from steps.prune.step import PruneInput, prune

    try:
        prune(PruneInput.model_validate(given))
    except UnreachableError as error:
        raise UserError(str(error)) from None
    return 0


def _on_a_cluster(parsed: argparse.Namespace, given: dict[str, str]) -> int:
    from pipelines.cluster.argo_server import connect
    from pipelines.cluster.cluster_result import print_result
    from pipelines.cluster.follow import follow
    from pipelines.cluster.submission import build, installed, submit
    from pipelines.workflows.prune import NAME

    connection = connect(parsed.namespace, parsed.context)
    installed(connection, NAME)
    run = submit(connection, build(NAME, given, NAME))
    return print_result(connection, follow(connection, run), as_json=False)
