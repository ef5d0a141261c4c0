"""`fineline weights`: list, verify or delete the base models on this machine."""

import argparse
import json
import time

from pipelines.shown.arguments import add_json

HELP = "list, verify or delete the base models on this machine"
DESCRIPTION = "List the base models on this machine, the least recently used first; or verify them, or free disk space."
GB = 1_000_000_000
DAMAGED = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)
    parser.add_argument(
        "--verify", action="store_true", help="hash every file again and report damaged ones; works offline"
    )
    parser.add_argument(
        "--keep",
        metavar="SIZE",
        default="",
        help="delete the least recently used models until at most SIZE is left, for example 300GB",
    )


def execute(parsed: argparse.Namespace) -> int:
    """List, verify or delete.

    Raises:
        UserError: --keep is not a size, or the models that runs are using take more than that.
    """
    if parsed.verify:
        return _verify(as_json=parsed.json)
    if parsed.keep:
        return _free(parsed.keep)
    return _list(as_json=parsed.json)


def _list(*, as_json: bool) -> int:
    from pipelines.shown.shell_command import shell_command
    from pipelines.shown.table import print_table
    from steps.common.storage import volumes
    from steps.common.weights import store

    found = store.published()
    if as_json:
        listed = [
            {"uri": p.uri, "folder": str(p.folder), "bytes": p.bytes, "used": p.used, "held_by": p.holders}
            for p in found
        ]
        print(json.dumps(listed, indent=2))
        return 0
    if not found:
        print(f"no base models yet; download one with: {shell_command('fineline pull MODEL')}")
        return 0
    rows = [
        (
            one.uri,
            f"{one.bytes / GB:.2f}",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used)),
            ", ".join(one.holders),
        )
        for one in found
    ]
    title = f"base models in {volumes.weights()}, {sum(one.bytes for one in found) / GB:.2f} GB"
    print_table(title, ["model", "GB", "last used", "in use by"], rows)
    return 0


def _verify(*, as_json: bool) -> int:
    from steps.common.weights import store
    from steps.pull.verify import verify

    found = store.published()
    damaged = verify([one.folder for one in found])
    if as_json:
        print(json.dumps([{"file": str(one.file), "why": one.why} for one in damaged], indent=2))
    else:
        for one in damaged:
            print(one.in_words())
        what = f"models: {len(found)}, {sum(one.bytes for one in found) / GB:.2f} GB"
        print(f"{what}: " + (f"damaged files: {len(damaged)}" if damaged else "every file is intact"))
    return DAMAGED if damaged else 0


def _free(size: str) -> int:
    from steps.common.runtime.errors import UserError
    from steps.common.runtime.settings import size_in_bytes
    from steps.pull import space

    try:
        most = size_in_bytes(size)
    except ValueError as error:
        raise UserError(f"--keep: {error}") from None
    deleted = space.free_until(most, why=f"--keep {size}")
    print(f"deleted {sum(one.bytes for one in deleted) / GB:.2f} GB")
    return 0
