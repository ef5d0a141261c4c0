"""A call of a tool, as it was read from the text of an answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steps.common.structured.json_answer import NotJsonError, parse_json, same_json


class BrokenCallError(Exception):
    """The text begins a call of a tool that cannot be read to its end."""


@dataclass(frozen=True)
class ParsedCall:
    """The tool's name, and its arguments as JSON values."""

    name: str
    arguments: Mapping[str, Any]

    def same(self, other: "ParsedCall") -> bool:
        """Tell whether both call the same tool with equal arguments."""
        return self.name == other.name and same_json(dict(self.arguments), dict(other.arguments))


def call_of(name: Any, arguments: Any) -> ParsedCall:
    """Return a call from a name, and arguments that are an object or the JSON text of one; no arguments are an empty object.

    Raises:
        BrokenCallError: there is no name, or the arguments are no object.
    """
    if isinstance(arguments, str) and arguments.strip():
        try:
            arguments = parse_json(arguments)
        except NotJsonError as error:
            raise BrokenCallError(f"the arguments of {name}: {error}") from None
    arguments = {} if arguments is None or arguments == "" else arguments
    if not isinstance(name, str) or not name.strip() or not isinstance(arguments, dict):
        raise BrokenCallError("a call needs a name, and an object with its arguments")
    return ParsedCall(name.strip(), arguments)
