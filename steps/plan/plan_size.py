"""How large a plan may be in a cluster, where each step receives it as a parameter."""

from collections.abc import Iterable

from pydantic import BaseModel

from steps.common.handover.resolved import DataFile, Resolved
from steps.common.runtime.errors import UserError

# A pod's template has the plan twice, as a parameter and in the script, with quotation marks escaped, and reaches the pod in
# one environment variable. Linux takes 128 KiB for one.
LARGEST_PLAN = 48 << 10  # bytes of JSON


def refuse_large_plan(plan: Resolved) -> None:
    """Refuse a plan that no pod of a cluster could be started with.

    Raises:
        UserError: with what makes it smaller.
    """
    sources = [*plan.data.train, *plan.data.validation, *(task for task in plan.tasks if task)]
    _refuse(_bytes(plan), sum(len(one.files) for one in sources) + len(plan.lm_eval))


def refuse_many_files(recipe: BaseModel, files: Iterable[DataFile]) -> None:
    """Refuse a recipe whose files alone would make a plan too large, before they are sent.

    Args:
        recipe: as it is.
        files: of this machine that it names, with the places where they will be.

    Raises:
        UserError: with what makes it smaller.
    """
    named = list(files)
    # The recipe that is sent names each by its place.
    places = sum(len((file.source or file.path).encode()) for file in named)
    _refuse(_bytes(recipe) + places + sum(map(_bytes, named)), len(named))


def _bytes(value: BaseModel) -> int:
    return len(value.model_dump_json().encode())


def _refuse(size: int, files: int) -> None:
    if size > LARGEST_PLAN:
        raise UserError(
            f"data: the plan, which names {files} files one by one, takes {-(-size >> 10)} KiB, and on a cluster it may take "
            f"{LARGEST_PLAN >> 10} KiB; join the files into fewer ones, e.g. as Parquet, or shorten their names"
        )
