"""Finds the Python files that a task's definition needs from its own folder."""

import ast
from collections.abc import Iterator
from pathlib import Path

import yaml


def modules_of(definition: Path) -> set[Path]:
    """Return the files of a definition's functions, and the files beside them that these import.

    A module that is not there belongs to an installed package; lm-eval resolves names the same way.
    """
    modules: set[Path] = set()
    waiting = [_beside(definition, name) for name in _function_modules(definition)]
    while waiting:
        file = waiting.pop()
        if file not in modules and file.is_file():
            modules.add(file)
            waiting += [_beside(file, name) for name in _imports(file)]
    return modules


def _beside(file: Path, module: str) -> Path:
    return file.parent / f"{module.replace('.', '/')}.py"


def _function_modules(definition: Path) -> Iterator[str]:
    """Yield the module of each `!function module.name`."""
    for event in yaml.parse(definition.read_text(encoding="utf-8"), Loader=yaml.SafeLoader):
        if isinstance(event, yaml.ScalarEvent) and event.tag == "!function":
            yield event.value.rpartition(".")[0]


def _imports(file: Path) -> Iterator[str]:
    """Yield the name of each module that a file may import, at any place in it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # Python cannot import it either
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            package = f"{node.module}." if isinstance(node, ast.ImportFrom) and node.module else ""
            yield from (f"{package}{one.name}" for one in node.names)
            yield package.removesuffix(".")
