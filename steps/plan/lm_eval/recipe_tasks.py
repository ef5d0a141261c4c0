"""Pins the recipe's tasks of lm-eval, each as a packed file."""

from dataclasses import replace
from pathlib import Path

from recipes.evaluation import LmEvalTask
from steps.common.handover.resolved import DataFile
from steps.common.lm_eval import pack
from steps.common.lm_eval.library import check_installed
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError
from steps.plan.data.data_file import DataSize, locate, pin_file


def is_packed(task: LmEvalTask) -> bool:
    """Return whether the recipe names a packed task."""
    return Path(task.include).suffix == pack.SUFFIX


def asked_too(held_out: DataSize, files: list[DataFile]) -> DataSize:
    """Return the size of the held-out rows, with the tokens that packed tasks add."""
    requests = [pack.read(Path(file.path), "evaluate.lm_eval") for file in files]
    return replace(
        held_out,
        asked=sum(request.read_tokens for request in requests),
        written=sum(request.written_tokens for request in requests),
    )


def packed_file(key: str, task: LmEvalTask) -> DataFile:
    """Return a task as a packed file: the one that the recipe names, or a new one.

    Args:
        key: the recipe's key, for messages.
        task: the recipe's task.

    Raises:
        UserError: lm-eval is not installed; the task, its data set or its metric does not exist; or the task fails.
    """
    if not is_packed(task):
        if "://" in task.include:
            raise UserError(
                f"{key}.include: {task.include}: only a packed task ({pack.SUFFIX}) can be fetched from a URL"
            )
        if cluster_settings.in_cluster():
            raise UserError(
                f"{key}: the plan in a cluster has neither lm-eval nor access to a hub; send the recipe with 'fineline "
                f"submit', which packs the task on your machine, or name a packed task: include: FILE{pack.SUFFIX}"
            )
        check_installed(key)
        from steps.plan.lm_eval.pack_task import pack_task

        return pin_file(pack_task(key, task), None)
    path, fetched = locate(task.include, lambda _: None)  # the recipe's own name has been looked at
    packed_by = pack.with_defaults(pack.read(path, key).packed_by)
    if different := [name for name, value in pack.packing_keys(task).items() if packed_by[name] != value]:
        settings = ", ".join(f"{name} {packed_by[name]!r}" for name in different)
        raise UserError(f"{key}: {path} was packed with {settings}; set the same here, or pack the task again")
    return pin_file(path, fetched)
