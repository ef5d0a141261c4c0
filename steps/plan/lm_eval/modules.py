"""Which of the Python files beside a task's definition are its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

import yaml


def modules_of(definition: Path) -> set[Path]:
    """Return the files that a definition's functions are in, and those that these import from beside them.

    One that does not lie there is part of something that is installed: lm-eval looks likewise.
    """
    found: set[Path] = set()
    waiting = [_beside(definition, name) for name in _named(definition)]
    while waiting:
        file = waiting.pop()
        if file not in found and file.is_file():
            found.add(file)
            waiting += [_beside(file, name) for name in _imported(file)]
    return found


def _beside(file: Path, module: str) -> Path:
    return file.parent / f"{module.replace('.', '/')}.py"


def _named(definition: Path) -> Iterator[str]:
    """Give the module of each `!function module.name`."""
    for event in yaml.parse(definition.read_text(encoding="utf-8"), Loader=yaml.SafeLoader):
        if isinstance(event, yaml.ScalarEvent) and event.tag == "!function":
            yield event.value.rpartition(".")[0]


def _imported(file: Path) -> Iterator[str]:
    """Give the name of each module that a file may import, wherever in it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # nor will it be imported
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            package = f"{node.module}." if isinstance(node, ast.ImportFrom) and node.module else ""
            yield from (f"{package}{one.name}" for one in node.names)
            yield package.removesuffix(".")
