"""Loads packed tasks as lm-eval's own objects."""

from pathlib import Path
from typing import Any

from steps.common.lm_eval.library import silence
from steps.common.lm_eval.pack import DEFINITIONS, ROWS, PackedRequest


def load_tasks(folder: Path, request: PackedRequest) -> dict[str, Any]:
    """Return the tasks of an unpacked file, by name; nothing is fetched.

    Args:
        folder: where it was unpacked.
        request: what it asks.
    """
    from lm_eval.tasks import TaskManager

    silence()
    manager = TaskManager(include_path=str(folder / DEFINITIONS), include_defaults=False)
    return {name: load_task(manager, name, _changes(folder / ROWS / name, request)) for name in request.rows}


def load_task(manager: Any, name: str, changes: dict[str, Any]) -> Any:
    """Return one of a manager's tasks, with some of its keys changed.

    It is loaded as the member of a group: lm-eval would take a task with changes for a new one, without its definition.
    """
    tasks: dict[str, Any] = manager.load([{"group": "asked", "task": [{"task": name, **changes}]}])["tasks"]
    return tasks[name]


def _changes(rows: Path, request: PackedRequest) -> dict[str, Any]:
    shots = {} if request.num_fewshot is None else {"num_fewshot": request.num_fewshot}
    return {"custom_dataset": lambda **_: _data_set(rows), "dataset_kwargs": None, **shots}


def _data_set(rows: Path) -> Any:
    """Return the splits with their original types, in memory; otherwise lm-eval would copy them into a cache."""
    from datasets import Dataset, DatasetDict
    from pyarrow import parquet

    return DatasetDict({file.stem: Dataset(parquet.read_table(file)) for file in sorted(rows.glob("*.parquet"))})
