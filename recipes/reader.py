"""Reads a recipe from a file, a shipped recipe or text, applies overrides and validates it. Every error is one line."""

import contextlib
import difflib
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from recipes.evaluation import HELD_OUT
from recipes.recipe import Recipe
from recipes.unique_keys import DoubleKeyError, UniqueKeyLoader

# In place of pydantic's own words, which speak of parsing and of Python's types.
EXPECTED = {
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "model_type": "a mapping of keys to values",
}


class RecipeError(Exception):
    """The recipe is invalid; the text is one line with the place and the remedy."""


def shipped() -> dict[str, Path]:
    """Return the recipes that ship with Fineline by name: the folders here with a `recipe.yaml`."""
    root = Path(str(resources.files("recipes")))
    return {file.parent.name.replace("_", "-"): file for file in sorted(root.glob("*/recipe.yaml"))}


def load(reference: str, overrides: dict[str, str] | None = None) -> Recipe:
    """Return a recipe with absolute data paths.

    Args:
        reference: a path, the name of a shipped recipe, or the YAML text of a recipe (with a line break or a brace).
        overrides: YAML values by dotted key, such as {"tune.epochs": "2"}, which take precedence over the file.

    Raises:
        RecipeError: with the file, the key, what is wrong, and the nearest known key.
    """
    path = _path(reference)
    where = str(path) if path else "recipe"
    try:
        text = path.read_text(encoding="utf-8") if path else reference
    except OSError as error:
        raise RecipeError(f"{where}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{where}: is not a UTF-8 text file") from None
    tree = _parse(text, where)
    folder = path.parent.resolve() if path else Path.cwd()
    _place_data(tree, folder)
    for key, value in (overrides or {}).items():
        _override(tree, key, value)
    _place_data(tree, Path.cwd())
    return from_tree(tree, where, overrides)


def from_tree(tree: dict[str, Any], where: str, overrides: dict[str, str] | None = None) -> Recipe:
    """Return the recipe with these keys and values, in which the paths are absolute.

    Args:
        tree: the keys and values.
        where: what errors call the recipe.
        overrides: by which some of the values were set.

    Raises:
        RecipeError: with the key, what is wrong, and the nearest known key.
    """
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(_first_line(error, where, overrides or {})) from None


def _path(reference: str) -> Path | None:
    if "\n" in reference or "{" in reference:
        return None
    ships = shipped()
    path = Path(reference).expanduser()
    if path.is_file():
        return path
    if reference in ships:
        return ships[reference]
    if path.is_dir():
        raise RecipeError(f"{reference}: is a folder; name the recipe file in it")
    nearest = difflib.get_close_matches(reference, ships, 1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else f"; recipes that ship: {', '.join(ships)}"
    raise RecipeError(f"{reference}: no such recipe file{hint}")


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        tree = yaml.load(text, UniqueKeyLoader)
    except DoubleKeyError as error:
        raise RecipeError(f"{where}:{error.line}: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise RecipeError(f"{where}{place}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"{where}: a recipe is a mapping of keys to values with at least 'name' and 'data'")
    return tree


def _absolute(value: Any, folder: Path) -> Any:
    """Make the paths in a value absolute: a text, or a list of texts and of mappings with a source."""
    if isinstance(value, list):
        return [_absolute(one, folder) for one in value]
    if isinstance(value, dict) and "source" in value:
        return {**value, "source": _absolute(value["source"], folder)}
    if not isinstance(value, str) or not value or "://" in value:
        return value
    path = folder / Path(value).expanduser()
    # A symbolic link keeps its own name, which says what kind of file it is; the target's may be a hash.
    return str(path.resolve() if path.name == ".." else path.parent.resolve() / path.name)


def _place_data(tree: dict[str, Any], folder: Path) -> None:
    """Make the paths of the data files absolute, and those of the tasks' files."""
    data, evaluate = tree.get("data"), tree.get("evaluate")
    for part in ("train", "validation"):
        if isinstance(data, dict) and part in data:
            data[part] = _absolute(data[part], folder)
    for part, key in (("tasks", "data"), ("lm_eval", "include")):
        tasks = evaluate.get(part) if isinstance(evaluate, dict) else None
        for task in tasks if isinstance(tasks, list) else []:
            if isinstance(task, dict) and key in task and (key, task[key]) != ("data", HELD_OUT):
                task[key] = _absolute(task[key], folder)


def _override(tree: dict[str, Any], key: str, value: str) -> None:
    *parents, leaf = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise RecipeError(f"-o {key}: {parent!r} holds a value, not keys")
        tree = child
    # A path is taken as it is: it may have characters that mean something in YAML.
    if key in ("data.train", "data.validation") and not (value.startswith("[") and value.endswith("]")):
        tree[leaf] = value
        return
    try:
        parsed = yaml.load(value, UniqueKeyLoader)
    except DoubleKeyError as error:
        raise RecipeError(f"-o {key}: {error}") from None
    except yaml.YAMLError:
        raise RecipeError(f"-o {key}: {value!r} is not a YAML value") from None
    # YAML 1.1 reads 1e-3 as text; it takes 1.0e-3 for a number.
    if isinstance(parsed, str):
        with contextlib.suppress(ValueError):
            parsed = json.loads(parsed)
    tree[leaf] = "" if parsed is None else parsed


def _first_line(error: ValidationError, where: str, overrides: dict[str, str]) -> str:
    # Unknown keys first: if a key is misspelt, the right one is missing too.
    errors = sorted(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    lines = [_line(_keys_of(e["loc"]), e["type"], e["msg"], e.get("input")) for e in errors]
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    place = ".".join(str(part) for part in _keys_of(errors[0]["loc"]))
    overridden = any(f"{place}.".startswith(f"{key}.") for key in overrides)
    return f"-o {lines[0]}{more}" if overridden else f"{where}: {lines[0]}{more}"


def _keys_of(place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return the keys of an error's place, which has a tag too where a value may be of several types."""
    return tuple(part for part in place if not (isinstance(part, str) and part.startswith("<")))


def _line(place: tuple[int | str, ...], kind: str, message: str, value: Any) -> str:
    key = ".".join(str(part) for part in place)
    if kind == "extra_forbidden":
        nearest = difflib.get_close_matches(str(place[-1]), _keys(place[:-1]), 1, 0.5)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(_keys(place[:-1]))}"
        return f"{key}: unknown key; {hint}"
    if kind == "missing":
        return f"{key}: is missing"
    message = f"input should be {EXPECTED[kind]}" if kind in EXPECTED else message.removeprefix("Value error, ")
    shown = f", not {value!r}" if isinstance(value, str | int | float) else ""
    return f"{key}: {message[0].lower()}{message[1:]}{shown}" if key else message


def _keys(place: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in place:
        if isinstance(part, int):
            continue
        model = next(_models(model.model_fields[part].annotation))
    return list(model.model_fields)


def is_key(key: str) -> bool:
    """Return whether a recipe has a key, such as `tune.seed` or `evaluate.tasks.rows`."""
    models: list[type[BaseModel]] = [Recipe]
    for part in key.split("."):
        types = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        if not types:
            return False
        models = [model for one in types for model in _models(one)]
    return True


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in a type: itself, or those in its list or union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for one in get_args(annotation):
        yield from _models(one)


def override_of(text: str) -> tuple[str, str]:
    """Split `KEY=VALUE` of the command line.

    Raises:
        RecipeError: the '=' is missing, or the key or a part of it.
    """
    key, equals, value = text.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")):
        raise RecipeError(f"-o {text}: write it as KEY=VALUE, e.g. -o tune.epochs=2")
    return key.strip(), value
