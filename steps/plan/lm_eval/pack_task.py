"""Packs a task of lm-eval: fetches its rows, copies its definition, tries it, and writes one file."""

import tempfile
from pathlib import Path
from typing import Any

from recipes.evaluation import LmEvalTask
from steps.common.lm_eval import pack
from steps.common.lm_eval.library import silence
from steps.common.lm_eval.load_tasks import load_task
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import sha256_of
from steps.plan.lm_eval.definitions import absolute_data_paths, copy_definitions, index_entries, task_manager
from steps.plan.lm_eval.foreign_errors import as_one_line
from steps.plan.lm_eval.trial import Trial, run_trial


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
    loaded = {entry.name: _load(key, manager, entry, task) for entry in entries}
    rows = _spread({name: len(one.eval_docs) for name, one in loaded.items()}, task.rows)
    root = volumes.runs() / "data"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".packing-", dir=root) as folder:
        content, file = Path(folder) / "content", Path(folder) / "file"
        copy_definitions([entry for entry in entries if entry.name in rows], content / pack.DEFINITIONS)
        for name in rows:
            _write_rows(loaded[name], content / pack.ROWS / name)
        size = sum(part.stat().st_size for part in content.rglob("*") if part.is_file())
        pack.check_size(size, f"{key}: {task.task}")
        request = pack.PackedRequest(
            wanted=pack.packing_keys(task),
            rows=rows,
            num_fewshot=task.num_fewshot,
            chat_template=task.chat_template,
            metric="",
            filter="",
            read_tokens=0,
            written_tokens=0,
        )
        request = run_trial(Trial(key=key, task=task, content=content, request=request))
        pack.write(content, request, file)
        final = root / sha256_of(file)[:16] / f"{task.task}{pack.SUFFIX}"
        final.parent.mkdir(parents=True, exist_ok=True)
        file.replace(final)
    say(f"{key}: packed {request.count} rows of {task.task}, scored by {request.metric_in_words}: {final}")
    return final


def _load(key: str, manager: Any, entry: Any, task: LmEvalTask) -> Any:
    """Return lm-eval's task with its data set, which is fetched if it is not on this machine."""
    changes = absolute_data_paths(entry) if task.include else {}
    if task.num_fewshot is not None:
        changes["num_fewshot"] = task.num_fewshot
    try:
        return load_task(manager, entry.name, changes)
    except Exception as error:  # of any type: this runs the task's own functions, and several libraries
        where = f"{key}: lm-eval's task {entry.name}"
        if not isinstance(error, OSError):
            raise UserError(f"{where} cannot be loaded: {as_one_line(error)}") from None
        data = changes.get("dataset_path") or entry.cfg.get("dataset_path")
        raise UserError(
            f"{where}: its data set {data} cannot be read: {as_one_line(error)}; correct its name or the access to the hub "
            "(HF_ENDPOINT, HF_TOKEN), or use a task of your own with data_files on this machine"
        ) from None


def _spread(available: dict[str, int], count: int) -> dict[str, list[int]]:
    """Return which rows of each task to ask: evenly spread over all rows; tasks without a row are left out."""
    every = [(name, row) for name, rows in available.items() for row in range(rows)]
    count = min(count, len(every))
    chosen: dict[str, list[int]] = {}
    for number in range(count):
        name, row = every[number * len(every) // count]
        chosen.setdefault(name, []).append(row)
    return chosen


def _write_rows(task: Any, folder: Path) -> None:
    """Write the splits: whole if rows are asked or examples drawn from them, else one row, because lm-eval reads one."""
    config = task.config
    folder.mkdir(parents=True)
    asked = config.test_split or config.validation_split
    for split in {config.training_split, config.validation_split, config.test_split, task.fewshot_cfg.split} - {None}:
        rows = task.dataset[split]
        whole = split == asked or config.num_fewshot
        (rows if whole else rows.select(range(min(1, len(rows))))).to_parquet(folder / f"{split}.parquet")
