"""Packed tasks as lm-eval's own objects."""

from pathlib import Path
from typing import Any

from steps.common.lm_eval.library import quiet
from steps.common.lm_eval.pack import DEFINITIONS, ROWS, PackedRequest


def load(folder: Path, asked: PackedRequest) -> dict[str, Any]:
    """Return the tasks of a packed task that was unpacked, by their names; nothing is fetched.

    Args:
        folder: where it was unpacked.
        asked: its note.
    """
    from lm_eval.tasks import TaskManager

    quiet()
    manager = TaskManager(include_path=str(folder / DEFINITIONS), include_defaults=False)
    return {name: task(manager, name, _changes(folder / ROWS / name, asked)) for name in asked.rows}


def task(manager: Any, name: str, changes: dict[str, Any]) -> Any:
    """Return one of a manager's tasks with some of its keys changed.

    A task that is named beside changes is taken for one of its own; as a member of a group it has its definition too.
    """
    found: dict[str, Any] = manager.load([{"group": "asked", "task": [{"task": name, **changes}]}])["tasks"]
    return found[name]


def _changes(rows: Path, asked: PackedRequest) -> dict[str, Any]:
    shots = {} if asked.num_fewshot is None else {"num_fewshot": asked.num_fewshot}
    return {"custom_dataset": lambda **_: _data_set(rows), "dataset_kwargs": None, **shots}


def _data_set(rows: Path) -> Any:
    """Return the splits with the types that they had, in memory: lm-eval would else keep a copy of them in a cache."""
    from datasets import Dataset, DatasetDict
    from pyarrow import parquet

    return DatasetDict({file.stem: Dataset(parquet.read_table(file)) for file in sorted(rows.glob("*.parquet"))})
