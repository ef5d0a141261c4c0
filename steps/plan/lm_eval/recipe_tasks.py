"""The recipe's tasks of lm-eval, each packed and pinned."""

from dataclasses import replace
from pathlib import Path

from recipes.evaluation import LmEvalTask
from recipes.recipe import Recipe
from steps.common.handover.resolved import DataFile
from steps.common.lm_eval import pack
from steps.common.lm_eval.library import check_installed
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError
from steps.plan.data.data_file import DataSize, located, pinned


def look_at_lm_eval(recipe: Recipe) -> list[DataFile]:
    """Pack each task with its rows, unless it is packed already, and hash it.

    Returns:
        A file for each task, in the recipe's order.

    Raises:
        UserError: lm-eval is not installed; a task, its data set or its metric is not there; or it cannot be asked.
    """
    return [packed_file(f"evaluate.lm_eval.{number}", wanted) for number, wanted in enumerate(recipe.evaluate.lm_eval)]


def is_packed(wanted: LmEvalTask) -> bool:
    """Tell whether the recipe names a packed task."""
    return Path(wanted.include).suffix == pack.SUFFIX


def asked_too(held_out: DataSize, files: list[DataFile]) -> DataSize:
    """Return the size of the held-out rows, with what packed tasks ask beside them."""
    asked = [pack.read(Path(file.path), "evaluate.lm_eval") for file in files]
    return replace(
        held_out, asked=sum(one.read_tokens for one in asked), written=sum(one.written_tokens for one in asked)
    )


def packed_file(key: str, wanted: LmEvalTask) -> DataFile:
    """Return one task as a packed file, which is made unless the recipe names one.

    Args:
        key: the recipe's, for messages.
        wanted: what it says there.

    Raises:
        UserError: see `look_at_lm_eval`.
    """
    if not is_packed(wanted):
        if "://" in wanted.include:
            raise UserError(f"{key}.include: {wanted.include}: only a packed task, {pack.SUFFIX}, may lie elsewhere")
        if cluster_settings.serve_image():
            raise UserError(
                f"{key}: a cluster's plan has no lm-eval and reaches no hub; send the recipe with 'fineline submit', which "
                f"packs the task on your machine, or give a packed one: include: FILE{pack.SUFFIX}"
            )
        check_installed(key)
        from steps.plan.lm_eval.packing import packed

        return pinned(packed(key, wanted), None)
    path, fetched = located(wanted.include, (pack.SUFFIX,))
    asked = pack.read(path, key)
    if other := [name for name, value in pack.keys(wanted).items() if asked.wanted.get(name) != value]:
        was = ", ".join(f"{name} {asked.wanted.get(name)!r}" for name in other)
        raise UserError(f"{key}: {path} was packed with {was}; write so here, or pack it again")
    return pinned(path, fetched)
