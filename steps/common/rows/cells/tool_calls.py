"""Tools and their calls: the notations that are in use, brought to the OpenAI API's."""

from collections.abc import Mapping
from typing import Any

from steps.common.rows.cells.columns import (
    Columns,
    FormError,
    from_json,
    in_a_line,
    is_empty,
    kind_of,
    says_nothing,
    to_json,
    without_nulls,
)

ARGUMENTS = ("arguments", "parameters", "args")


def read_calls(value: Any, where: str) -> list[tuple[str, str, str]]:
    """Read calls of tools: each as an id, which may be empty, a tool's name, and its arguments as a JSON object.

    Args:
        value: a call, a list of calls, or the JSON of either; a call is `{"function": {"name": …, "arguments": …}}` or the
            inner object alone, and its arguments are an object or the JSON of one.
        where: the message, for errors.

    Raises:
        FormError: a call cannot be read.
    """
    value = from_json(value, f"{where}: the call of a tool") if isinstance(value, str) else without_nulls(value)
    calls = value if isinstance(value, list | tuple) else [value]
    if not calls:
        raise FormError(f"{where} calls no tool")
    return [_call(from_json(call, f"{where}: a call") if isinstance(call, str) else call, where) for call in calls]


def _call(call: Any, where: str) -> tuple[str, str, str]:
    if not isinstance(call, Mapping):
        raise FormError(f"{where}: the call of a tool is {kind_of(call)}, not an object")
    if call.get("type") not in (None, "", "function"):
        raise FormError(f"{where} has a call of the type {in_a_line(repr(call['type']))}; known is function")
    inner = call.get("function")
    function = inner if isinstance(inner, Mapping) else call
    name = inner if isinstance(inner, str) else function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise FormError(f"{where} has a call without the tool's name")
    given: Any = next((function[key] for key in ARGUMENTS if not is_empty(function.get(key))), {})
    what = f"{where}: 'arguments' of {in_a_line(name)}"
    arguments = from_json(given, what) if isinstance(given, str) else given
    if not isinstance(arguments, Mapping):
        raise FormError(f"{what} is {kind_of(arguments)}, not an object")
    found = call.get("id")
    return found if isinstance(found, str) else "", name, to_json(arguments, what)


def read_tools(columns: Columns) -> str:
    """Return the row's tools as a JSON list in the OpenAI API's notation, from `tools` or `functions`; empty if there are none.

    Raises:
        FormError: the tools cannot be read.
    """
    name = next((name for name in ("tools", "functions") if not says_nothing(columns.use(name))), "")
    if not name:
        return ""
    where = columns.shown(name)
    given = columns.listed(name)
    tools = given if isinstance(columns.peek(name), str) else without_nulls(given)
    return to_json([_tool(tool, number, where) for number, tool in enumerate(tools, 1)], where)


def _tool(tool: Any, number: int, where: str) -> dict[str, Any]:
    if isinstance(tool, str):
        tool = from_json(tool, f"tool {number} of {where}")
    if not isinstance(tool, Mapping):
        raise FormError(f"tool {number} of {where} is {kind_of(tool)}, not an object")
    function = tool.get("function", tool)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise FormError(f"tool {number} of {where} has no name")
    return dict(tool) if "function" in tool else {"type": "function", "function": dict(tool)}


def read_documents(columns: Columns) -> str:
    """Return the row's documents as a JSON list, for chat templates that take them; empty if there are none.

    Raises:
        FormError: the documents are not a list of objects.
    """
    if says_nothing(columns.use("documents")):
        return ""
    documents = without_nulls(columns.listed("documents"))
    where = columns.shown("documents")
    for number, document in enumerate(documents, 1):
        if not isinstance(document, Mapping):
            raise FormError(
                f"document {number} of {where} is {kind_of(document)}, not an object such as {{title, text}}"
            )
    return to_json(documents, where)
