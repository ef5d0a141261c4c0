"""Packs a task of lm-eval: fetches its rows, copies its definition, tries it, and writes one file."""

import tempfile
from pathlib import Path
from typing import Any

from recipes.evaluation import LmEvalTask
from steps.common.lm_eval import pack
from steps.common.lm_eval.confined_task import run_confined
from steps.common.lm_eval.foreign_errors import as_one_line
from steps.common.lm_eval.library import silence
from steps.common.lm_eval.model_socket import TaskSplits
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import sha256_of
from steps.plan.lm_eval.definitions import absolute_data_paths, copy_definitions, index_entries, task_manager
from steps.plan.lm_eval.trial import Trial, run_trial

DATA_KEYS = ("dataset_path", "dataset_name", "dataset_kwargs")


def pack_task(key: str, task: LmEvalTask) -> Path:
    """Pack a task into a file on the runs volume, named by its digest.

    Args:
        key: the recipe's key, for messages.
        task: the recipe's task.

    Raises:
        UserError: the task, its data set or its metric does not exist, or the task fails when it is tried.
    """
    silence()
    manager = task_manager(key, task)
    entries = index_entries(key, manager, task.task)
    data_sets = {entry.name: _data_set(key, entry, task) for entry in entries}
    root = volumes.runs() / "data"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".packing-", dir=root) as folder:
        content, file = Path(folder) / "content", Path(folder) / "file"
        splits = _splits(key, task, entries, data_sets, Path(folder) / "whole")
        rows = _spread({name: one.rows for name, one in splits.items()}, task.rows)
        copy_definitions([entry for entry in entries if entry.name in rows], content / pack.DEFINITIONS)
        for name in rows:
            _write_rows(data_sets[name], splits[name], content / pack.ROWS / name)
        size = sum(part.stat().st_size for part in content.rglob("*") if part.is_file())
        pack.check_size(size, f"{key}: {task.task}")
        request = _request(task, rows)
        request = run_trial(Trial(key=key, task=task, content=content, request=request))
        pack.write(content, request, file)
        final = root / sha256_of(file)[:16] / f"{task.task}{pack.SUFFIX}"
        final.parent.mkdir(parents=True, exist_ok=True)
        file.replace(final)
    say(f"{key}: packed {request.count} rows of {task.task}, scored by {request.metric_in_words}: {final}")
    return final


def _request(task: LmEvalTask, rows: dict[str, list[int]]) -> pack.PackedRequest:
    return pack.PackedRequest(
        wanted=pack.packing_keys(task),
        rows=rows,
        num_fewshot=task.num_fewshot,
        chat_template=task.chat_template,
        metric="",
        filter="",
        read_tokens=0,
        written_tokens=0,
    )


def _data_set(key: str, entry: Any, task: LmEvalTask) -> Any:
    """Return the data set of lm-eval's task, which is fetched if it is not on this machine.

    The task's definition is read, and none of its code is run: this process has secrets and a network.
    """
    import datasets
    from lm_eval.tasks._yaml_loader import load_yaml

    where = f"{key}: lm-eval's task {entry.name}"
    try:
        config = load_yaml(entry.yaml_path, resolve_func=False)
    except Exception as error:  # of any type, as in lm-eval's index
        raise UserError(f"{where} cannot be loaded: {as_one_line(error)}") from None
    config |= {
        name: value for name, value in (entry.cfg or {}).items() if name in DATA_KEYS
    }  # of one task in a list of them
    if config.get("custom_dataset"):
        raise UserError(
            f"{where} makes its data set with a function of its own, which is not supported; use data_files"
        )
    config |= absolute_data_paths(entry, config) if task.include else {}
    arguments = dict(config.get("dataset_kwargs") or {})
    arguments.pop("trust_remote_code", None)
    data = config.get("dataset_path")
    try:
        return datasets.load_dataset(data, config.get("dataset_name"), **arguments)
    except Exception as error:  # of any type: several libraries
        raise UserError(
            f"{where}: its data set {data} cannot be read: {as_one_line(error)}; correct its name or the access to the hub "
            "(HF_ENDPOINT, HF_TOKEN), or use a task of your own with data_files on this machine"
        ) from None


def _splits(
    key: str, task: LmEvalTask, entries: list[Any], data_sets: dict[str, Any], folder: Path
) -> dict[str, TaskSplits]:
    """Return how many rows each task has, and where. Its code, which may filter them, tells so, confined."""
    copy_definitions(entries, folder / pack.DEFINITIONS)
    for name, splits in data_sets.items():
        (folder / pack.ROWS / name).mkdir(parents=True)
        for split, rows in splits.items():
            rows.to_parquet(folder / pack.ROWS / name / f"{split}.parquet")
    where = f"{key}: lm-eval's task {task.task}"
    request = _request(task, {entry.name: [] for entry in entries})
    outcome = run_confined(folder, request, None, chat_template=False, where=where)
    if outcome.failure:
        raise UserError(f"{where} cannot be loaded: {outcome.failure}")
    if outcome.splits.keys() != data_sets.keys():
        raise UserError(f"{where} cannot be loaded: its code has changed which tasks it has")
    return outcome.splits


def _spread(available: dict[str, int], count: int) -> dict[str, list[int]]:
    """Return which rows of each task to ask: evenly spread over all rows; tasks without a row are left out."""
    every = [(name, row) for name, rows in available.items() for row in range(rows)]
    count = min(count, len(every))
    chosen: dict[str, list[int]] = {}
    for number in range(count):
        name, row = every[number * len(every) // count]
        chosen.setdefault(name, []).append(row)
    return chosen


def _write_rows(data_set: Any, splits: TaskSplits, folder: Path) -> None:
    """Write the splits: whole if rows are asked or examples drawn from them, else one row, because lm-eval reads one."""
    folder.mkdir(parents=True)
    for split in data_set:
        rows = data_set[split]
        if split in splits.used:
            whole = split in splits.whole
            (rows if whole else rows.select(range(min(1, len(rows))))).to_parquet(folder / f"{split}.parquet")
