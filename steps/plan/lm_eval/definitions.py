"""Finds lm-eval's tasks: which ones a name stands for, and which files define them."""

import dataclasses
import difflib
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from recipes.evaluation import LmEvalTask
from steps.common.lm_eval.foreign_errors import as_one_line
from steps.common.lm_eval.pack import is_file_name
from steps.common.runtime.errors import UserError
from steps.plan.lm_eval.python_modules import modules_of


def task_manager(key: str, task: LmEvalTask) -> Any:
    """Return lm-eval's index of its own tasks, or of the tasks that the recipe includes.

    Raises:
        UserError: the file or folder to include does not exist.
    """
    from lm_eval.tasks import TaskManager

    if not task.include:
        return TaskManager()
    path = Path(task.include)
    if not path.exists():
        raise UserError(f"{key}.include: {path}: no such file or folder")
    folder = path if path.is_dir() else path.parent
    return TaskManager(include_path=str(folder), include_defaults=False)


def index_entries(key: str, manager: Any, name: str) -> list[Any]:
    """Return the index entries of all tasks that a name stands for: a task's own, or those of a group or tag.

    Raises:
        UserError: there is no task of that name, or one of them cannot be packed.
    """
    entry = manager.task_index.get(name)
    if entry is None:
        raise UserError(f"{key}: lm-eval knows no task {name!r}; {_hint(manager, name)}")
    if not is_file_name(name):
        raise UserError(f"{key}: the name of lm-eval's task {name!r} is not a valid file name; rename the task")
    if entry.kind.name == "TAG":
        names = sorted(entry.tags)
    elif entry.kind.name == "GROUP":
        names = _members_of_group(key, entry)
    else:
        _check_packable(key, entry)
        return [entry]
    entries = [member for one in names for member in index_entries(key, manager, one)]
    return list({member.name: member for member in entries}.values())


def _hint(manager: Any, name: str) -> str:
    if reason := _unreadable(manager.include_path, name):
        return reason
    if nearest := difflib.get_close_matches(name, manager.all_tasks, 1):
        return f"did you mean {nearest[0]}?"
    some = ", ".join(manager.all_tasks[:8]) or "none: a task's YAML file ends in .yaml and has the key 'task'"
    return f"it knows {some}"


def _unreadable(folder: str | None, name: str) -> str:
    """Return why a file that mentions the task cannot be read, which lm-eval's index hides; empty if there is none."""
    from lm_eval.tasks._yaml_loader import load_yaml

    for file in sorted(Path(folder).rglob("*.yaml")) if folder else []:
        if name.encode() in file.read_bytes():
            try:
                load_yaml(file, resolve_func=False)
            except Exception as error:  # of any type, as in lm-eval's index
                return f"{file} cannot be read: {as_one_line(error)}"
    return ""


def _members_of_group(key: str, entry: Any) -> list[str]:
    from lm_eval.config.group import GroupConfig

    names = entry.cfg.get("task") or []
    names = names if isinstance(names, list) else [names]
    overrides = set(entry.cfg) - {field.name for field in dataclasses.fields(GroupConfig)} - {"tag"}
    if overrides or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"{key}: lm-eval's group {entry.name} changes the settings of its tasks, which is not supported; name one of the "
            "tasks instead"
        )
    return [str(name) for name in names]


def _check_packable(key: str, entry: Any) -> None:
    config = entry.cfg or {}
    unsupported = {
        "is a Python class": entry.kind.name == "PY_TASK",
        "runs code that the model writes": config.get("unsafe_code"),
        "asks about images or audio": config.get("doc_to_image") or config.get("doc_to_audio"),
    }
    if reasons := [reason for reason, holds in unsupported.items() if holds]:
        raise UserError(f"{key}: lm-eval's task {entry.name} {reasons[0]}, which is not supported; choose another task")


def copy_definitions(entries: list[Any], folder: Path) -> None:
    """Copy the files that define tasks, and keep their positions relative to each other."""
    files = {file for entry in entries for file in _files(Path(entry.yaml_path).resolve())}
    root = os.path.commonpath([file.parent for file in files])
    for file in files:
        target = folder / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


class _LenientLoader(yaml.SafeLoader):
    """Reads lm-eval's own YAML tags, as `!function`, as null."""


_LenientLoader.add_multi_constructor("!", lambda *_: None)


def _files(file: Path) -> set[Path]:
    """Return a definition's file, the files that it includes, and the modules of its functions."""
    included = yaml.load(file.read_text(encoding="utf-8"), Loader=_LenientLoader).get("include") or []
    files = {file, *modules_of(file)}
    for name in included if isinstance(included, list) else [included]:
        files |= _files((file.parent / name).resolve())
    return files


def absolute_data_paths(entry: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a user's task that name its data, with relative paths resolved from the task's folder."""
    folder = Path(entry.yaml_path).resolve().parent

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: resolved(one) for name, one in value.items()}
        if isinstance(value, list):
            return [resolved(one) for one in value]
        return str(folder / value) if isinstance(value, str) and "://" not in value else value

    keys: dict[str, Any] = {}
    arguments = config.get("dataset_kwargs") or {}
    if paths := {name: resolved(arguments[name]) for name in ("data_files", "data_dir") if arguments.get(name)}:
        keys["dataset_kwargs"] = {**arguments, **paths}
    data_set = config.get("dataset_path")
    if isinstance(data_set, str) and (folder / data_set).is_dir():
        keys["dataset_path"] = str(folder / data_set)
    return keys
