"""Where lm-eval's tasks are defined, which a group stands for, and which files a definition is made of."""

import dataclasses
import difflib
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from recipes.evaluation import LmEvalTask
from steps.common.lm_eval.pack import is_file_name
from steps.common.runtime.errors import UserError
from steps.plan.lm_eval.foreign_errors import one_line
from steps.plan.lm_eval.modules import modules_of


def manager_of(key: str, wanted: LmEvalTask) -> Any:
    """Return lm-eval's index of its own tasks, or of those that the recipe includes.

    Raises:
        UserError: there is no such file or folder.
    """
    from lm_eval.tasks import TaskManager

    if not wanted.include:
        return TaskManager()
    path = Path(wanted.include)
    if not path.exists():
        raise UserError(f"{key}.include: {path}: no such file or folder")
    folder = path if path.is_dir() else path.parent
    return TaskManager(include_path=str(folder), include_defaults=False)


def members(key: str, manager: Any, name: str) -> list[Any]:
    """Return the index's entries of all tasks that a name stands for: one, or those of a group or tag.

    Raises:
        UserError: there is none of that name, or one that cannot be packed.
    """
    entry = manager.task_index.get(name)
    if entry is None:
        raise UserError(f"{key}: lm-eval knows no task {name!r}; {_hint(manager, name)}")
    if not is_file_name(name):
        raise UserError(
            f"{key}: lm-eval's task {name!r} is packed under its name, which no file can have; name it otherwise"
        )
    if entry.kind.name == "TAG":
        names = sorted(entry.tags)
    elif entry.kind.name == "GROUP":
        names = _members_of_group(key, entry)
    else:
        _check_packable(key, entry)
        return [entry]
    found = [member for one in names for member in members(key, manager, one)]
    return list({member.name: member for member in found}.values())


def _hint(manager: Any, name: str) -> str:
    if unread := _unread(manager.include_path, name):
        return unread
    if nearest := difflib.get_close_matches(name, manager.all_tasks, 1):
        return f"did you mean {nearest[0]}?"
    some = ", ".join(manager.all_tasks[:8]) or "none: a task's YAML ends in .yaml and has the key 'task'"
    return f"there are {some}"


def _unread(folder: str | None, name: str) -> str:
    """Return why a file that has the name in it is none of lm-eval's tasks, where it cannot be read; the index is silent."""
    from lm_eval.tasks._yaml_loader import load_yaml

    for file in sorted(Path(folder).rglob("*.yaml")) if folder else []:
        if name.encode() in file.read_bytes():
            try:
                load_yaml(file, resolve_func=False)
            except Exception as error:  # as the index
                return f"{file} cannot be read: {one_line(error)}"
    return ""


def _members_of_group(key: str, entry: Any) -> list[str]:
    from lm_eval.config.group import GroupConfig

    names = entry.cfg.get("task") or []
    names = names if isinstance(names, list) else [names]
    own = set(entry.cfg) - {field.name for field in dataclasses.fields(GroupConfig)} - {"tag"}
    if own or not all(isinstance(name, str) for name in names):
        raise UserError(f"{key}: lm-eval's group {entry.name} changes its tasks; name one of the tasks instead")
    return [str(name) for name in names]


def _check_packable(key: str, entry: Any) -> None:
    config = entry.cfg or {}
    why = {
        "a Python class": entry.kind.name == "PY_TASK",
        "marked as running code that the model writes": config.get("unsafe_code"),
        "about pictures or sound": config.get("doc_to_image") or config.get("doc_to_audio"),
    }
    if found := [what for what, holds in why.items() if holds]:
        raise UserError(f"{key}: lm-eval's task {entry.name} is {found[0]}, which is not asked here; take another")


def copy_definitions(entries: list[Any], folder: Path) -> None:
    """Copy the files that tasks are defined by, as they lie beside each other."""
    files = {file for entry in entries for file in _files(Path(entry.yaml_path).resolve())}
    root = os.path.commonpath([file.parent for file in files])
    for file in files:
        target = folder / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


class _Plain(yaml.SafeLoader):
    """Reads what lm-eval's files have besides YAML's own as nothing."""


_Plain.add_multi_constructor("!", lambda *_: None)


def _files(file: Path) -> set[Path]:
    """Return a definition's file, those that it includes, and the modules of their functions."""
    included = yaml.load(file.read_text(encoding="utf-8"), Loader=_Plain).get("include") or []
    found = {file, *modules_of(file)}
    for name in included if isinstance(included, list) else [included]:
        found |= _files((file.parent / name).resolve())
    return found


def with_its_files(entry: Any) -> dict[str, Any]:
    """Return the keys of a task of the user's own that name its data, with paths that start where the task lies."""
    folder = Path(entry.yaml_path).resolve().parent

    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: placed(one) for name, one in value.items()}
        if isinstance(value, list):
            return [placed(one) for one in value]
        return str(folder / value) if isinstance(value, str) and "://" not in value else value

    found: dict[str, Any] = {}
    given = entry.cfg.get("dataset_kwargs") or {}
    if places := {name: placed(given[name]) for name in ("data_files", "data_dir") if given.get(name)}:
        found["dataset_kwargs"] = {**given, **places}
    path = entry.cfg.get("dataset_path")
    if isinstance(path, str) and (folder / path).is_dir():
        found["dataset_path"] = str(folder / path)
    return found
