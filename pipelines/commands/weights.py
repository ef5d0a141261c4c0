"""`fineline pull` and `fineline weights`: the base models on this machine."""

import json
import time

from pipelines.shown.table import print_table
from steps.common.runtime.errors import UserError
from steps.common.runtime.settings import size_in_bytes
from steps.common.storage import volumes
from steps.common.weights import store
from steps.plan.model import resolve_model
from steps.pull import space
from steps.pull.step import PullInput
from steps.pull.step import pull as fetch
from steps.pull.verify import verify as compare

GB = 1_000_000_000
DAMAGED = 2


def pull(model: str, *, verify: bool) -> int:
    """Fetch a model, and print its folder.

    Raises:
        UserError: no such model, or it cannot be fetched.
    """
    print(fetch(PullInput(model=resolve_model(model), files="all", verify=verify)).folder)
    return 0


def show(*, as_json: bool) -> int:
    """List the models that are there, that which was not used for longest first."""
    found = store.published()
    if as_json:
        rows = [
            {"uri": p.uri, "folder": str(p.folder), "bytes": p.bytes, "used": p.used, "held_by": p.holders}
            for p in found
        ]
        print(json.dumps(rows, indent=2))
        return 0
    if not found:
        print("no base model is here yet; fineline pull MODEL fetches one")
        return 0
    columns = ["model", "GB", "last used", "held by"]
    print_table(
        f"base models in {volumes.weights()}, {sum(one.bytes for one in found) / GB:.2f} GB",
        columns,
        [
            (
                one.uri,
                f"{one.bytes / GB:.2f}",
                time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used)),
                ", ".join(one.holders),
            )
            for one in found
        ],
    )
    return 0


def verify(*, as_json: bool) -> int:
    """Hash every file of every model again, and say which are not what they were; no source is asked."""
    found = store.published()
    wrong = compare([one.folder for one in found])
    if as_json:
        print(json.dumps([{"file": str(one.file), "why": one.why} for one in wrong], indent=2))
    else:
        for one in wrong:
            print(one.in_words())
        what = f"models: {len(found)}, {sum(one.bytes for one in found) / GB:.2f} GB"
        print(f"{what}: " + (f"damaged files: {len(wrong)}" if wrong else "every file is what it was"))
    return DAMAGED if wrong else 0


def keep(size: str) -> int:
    """Delete what was not used for longest until so much is left.

    Raises:
        UserError: the text is no size, or what runs hold is more.
    """
    try:
        most = size_in_bytes(size)
    except ValueError as error:
        raise UserError(f"--keep: {error}") from None
    gone = space.free_until(most, why=f"--keep {size}")
    print(f"{sum(one.bytes for one in gone) / GB:.2f} GB are deleted")
    return 0
