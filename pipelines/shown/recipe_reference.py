"""The recipe's reference in Markdown, generated from the recipe's JSON Schema."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipes.recipe import Recipe

REFERENCE = Path("docs") / "recipe.md"  # in a clone
INTRODUCTION = """\
<!-- Rendered by `fineline render` from recipes/*.py; change that, not this. -->
# Recipe reference

A recipe is a YAML file. Only `name` and `data.train` are required. Set a nested key in the file as YAML does, or on the
command line with its dotted name: `-o tune.epochs=2`. An unknown key is an error that names the nearest known one.
`fineline schema` prints the same reference as JSON Schema, for editors. For explanations, see [your data](data.md),
[tuning](tuning.md), [evaluation](evaluation.md), [serving](serving.md), and [GPU nodes](gpu-nodes.md).
"""
HEADER = "| Key | Type | Default | Allowed | Description |\n|---|---|---|---|---|"
LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
TYPES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "object": "section",
}


def reference() -> str:
    """Return the reference: a table for each part of the recipe, in the order in which the parts nest."""
    schema = Recipe.model_json_schema()
    return "\n".join([INTRODUCTION, *_sections(schema, schema["$defs"], "")])


def differences() -> list[str]:
    """Return a message if the file does not match the code."""
    if not REFERENCE.exists():
        return [f"{REFERENCE} is missing"]
    return [] if REFERENCE.read_text() == reference() else [f"{REFERENCE} differs from the code"]


def write() -> list[Path]:
    """Write the file, and return its path."""
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    REFERENCE.write_text(reference())
    return [REFERENCE]


def _sections(part: dict[str, Any], parts: dict[str, Any], path: str) -> Iterator[str]:
    """Yield the section of a part, then those of the parts nested in it."""
    yield f"## {path or 'Top level'}\n"
    # A part's own docstring introduces it; the recipe's has its place in the introduction.
    if path and (text := part.get("description", "")):
        yield f"{_one_line(text)}\n"
    required = part.get("required", [])
    rows = [_row(key, value, key in required, _joined(path, key)) for key, value in part["properties"].items()]
    yield "\n".join([HEADER, *rows]) + "\n"
    for key, value in part["properties"].items():
        if nested := _nested(value):
            yield from _sections(parts[nested], parts, _joined(path, key))


def _row(key: str, value: dict[str, Any], required: bool, path: str) -> str:
    description = _one_line(value.get("description", ""))
    if _nested(value):
        kind = _type(value) if "oneOf" in value else "list" if value.get("type") == "array" else "section"
        default = "required" if required else "empty" if kind == "list" else ""
        see = f"See [{path}](#{path.replace('.', '')})."
        cells = [f"`{key}`", kind, default, "", f"{description} {see}".strip()]
    else:
        default = "required" if required else _default(value.get("default"))
        cells = [f"`{key}`", _type(value), default, _allowed(value), description]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _nested(value: dict[str, Any]) -> str:
    """Return the name of the part that a key holds, one or a list of them; empty where it holds plain values."""
    found: str = value.get("$ref", "").rpartition("/")[2]
    inner = [*value.get("oneOf", []), *([value["items"]] if "items" in value else [])]
    return found or next(filter(None, map(_nested, inner)), "")


def _type(value: dict[str, Any]) -> str:
    if "oneOf" in value:
        return " or ".join(map(_type, value["oneOf"]))
    if value.get("type") == "array":
        return "list" if "oneOf" in value["items"] else f"list of {_type(value['items'])}"
    # A key that may be unset is a union with null; null is shown as the default.
    return TYPES[_set(value)["type"]]


def _allowed(value: dict[str, Any]) -> str:
    value = value["oneOf"][0] if "oneOf" in value else _set(value)
    if choices := value.get("enum"):
        return ", ".join(f"`{choice}`" for choice in choices)
    limits = [text.format(f"{value[name]:g}") for name, text in LIMITS.items() if name in value]
    if pattern := value.get("pattern"):
        limits.append(f"matches `{pattern}`")
    if value.get("minLength"):
        limits.append("not empty")
    return ", ".join(limits)


def _set(value: dict[str, Any]) -> dict[str, Any]:
    """Return what the schema says of a key where it is set."""
    return next((one for one in value.get("anyOf", []) if one.get("type") != "null"), value)


def _default(value: Any) -> str:
    if value is None:
        return "not set"
    if value in ("", [], {}):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _one_line(text: str) -> str:
    return " ".join(text.split())
