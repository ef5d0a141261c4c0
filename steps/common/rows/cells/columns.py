"""The columns of a row, or the keys of a message: which are used, and which have no effect."""

import json
from collections.abc import Mapping
from typing import Any

from steps.common.rows.cells.role_names import CALL_ROLES, ROLES

CALL_KEYS = ("tool_calls", "function_call")
SHOWN_NAMES = 20
LONGEST_NOTHING = 20  # characters of an empty value as JSON, with spaces
SHOWN_LENGTH = 80  # characters of a value in an error


class FormError(Exception):
    """The row is in no known form, or is not valid in its form; the text says why."""


class Columns:
    """Values by name, in any case of letters, with a record of the names that were asked for.

    Null counts as absent: Arrow fills it in for what only other rows have. A name is written in errors as the row has it.
    """

    def __init__(self, values: Mapping[str, Any], within: str = "", ignored: dict[str, None] | None = None) -> None:
        """Take the values; `within` is the path to them, and `ignored` collects what has no effect there."""
        self._values = values
        self._within = within
        self._ignored: dict[str, None] = {} if ignored is None else ignored
        self._used: set[str] = set()
        self._written: dict[str, str] = {}
        for name in values:
            known = str(name).strip().lower()
            if known not in self._written or name == known:
                self._written[known] = name
        self._filled = {known for known, name in self._written.items() if not is_empty(values[name])}

    def has(self, *names: str) -> bool:
        """Return whether each of the names has a value that is not empty."""
        return self._filled.issuperset(names)

    def names(self, *names: str) -> bool:
        """Return whether each of the names is there, be it with an empty value."""
        return self._written.keys() >= set(names)

    def first(self, *names: str) -> str:
        """Return the first name with a value; if there is none, the first name that is there; or an empty text."""
        found = [name for name in names if name in self._written]
        return next((name for name in found if name in self._filled), found[0] if found else "")

    def shown(self, name: str) -> str:
        """Return a name for an error."""
        return repr(self._within + self._written.get(name, name))

    def peek(self, name: str) -> Any:
        """Return a value as it is, None if there is none."""
        return self._values[self._written[name]] if name in self._written else None

    def use(self, name: str) -> Any:
        """Return a value as it is, None if there is none, and record that it has its effect."""
        if name in self._written:
            self._used.add(self._written[name])
        return self.peek(name)

    def text(self, name: str, *, optional: bool = False) -> str:
        """Return a text.

        Raises:
            FormError: the value is not a text, or is empty and not optional.
        """
        value = self.use(name)
        if optional and is_empty(value):
            return ""
        if not isinstance(value, str):
            raise FormError(f"{self.shown(name)} is {kind_of(value)}, not text")
        if not value.strip():
            raise FormError(f"{self.shown(name)} is empty")
        return value

    def listed(self, name: str) -> list[Any]:
        """Return a list, which may be written as JSON; a lone object is a list of one.

        Raises:
            FormError: the value is not a list, or is empty.
        """
        value = self.use(name)
        if isinstance(value, str) and value.strip():  # in a CSV file
            value = from_json(value, self.shown(name))
        if isinstance(value, Mapping) and value:
            return _objects(value)
        if is_empty(value) and value is not None:
            raise FormError(f"{self.shown(name)} is empty")
        if not isinstance(value, list | tuple):
            raise FormError(f"{self.shown(name)} is {kind_of(value)}, not a list")
        return list(value)

    def messages_or_text(self, name: str) -> list[Any] | str:
        """Return a list of messages, which may be written as JSON, or a text that is none.

        Raises:
            FormError: the value is neither, or is empty.
        """
        value = self.use(name)
        if not isinstance(value, str):
            return self.listed(name) if isinstance(value, list | tuple | Mapping) else self.text(name)
        if value.lstrip().startswith(("[{", "[ {", "[\n", '{"')):
            try:
                found = json.loads(value)
            except (ValueError, RecursionError):
                return value  # a text that only starts like a list
            listed = [found] if isinstance(found, dict) else found
            if _are_messages(listed):
                return list(listed)
        return self.text(name)

    def inner(self, name: str) -> "Columns":
        """Return the columns inside an object.

        Raises:
            FormError: the value is not an object.
        """
        value = self.use(name)
        if isinstance(value, str):
            value = from_json(value, self.shown(name))
        if not isinstance(value, Mapping):
            raise FormError(f"{self.shown(name)} is {kind_of(value)}, not an object")
        return Columns(value, f"{self._within}{name}.", self._ignored)

    def message(self, name: str, value: Mapping[str, Any]) -> "Columns":
        """Return the keys of a message in one of the lists."""
        return Columns(value, f"{self._within}{self._written.get(name, name)}[].", self._ignored)

    def ignore(self, name: str) -> None:
        """Record by name something that has no effect."""
        self._ignored[in_a_line(self._within + name)] = None

    def ignore_rest(self) -> None:
        """Record as ignored every name that has a value and was not used."""
        for name, value in self._values.items():
            if name not in self._used and not is_empty(value):
                self.ignore(str(name))

    @property
    def ignored(self) -> tuple[str, ...]:
        """What has no effect, by name, here and further inside."""
        return tuple(self._ignored)

    def __str__(self) -> str:
        """Return the names that have a value."""
        names = [in_a_line(str(name)) for name, value in self._values.items() if not is_empty(value)]
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        return (", ".join(names[:SHOWN_NAMES]) or "none") + more


def _objects(value: Mapping[str, Any]) -> list[Any]:
    """Return an object as a list of one, or the list of objects that older data sets store as an object of lists."""
    lists = [inner for inner in value.values() if inner is not None]
    if not all(isinstance(inner, list) and len(inner) == len(lists[0]) for inner in lists):
        return [value]
    names = [name for name, inner in value.items() if inner is not None]
    return [dict(zip(names, found, strict=True)) for found in zip(*lists, strict=True)]


def _are_messages(values: list[Any]) -> bool:
    """Return whether what stands in a text as JSON is messages, and not an answer that is JSON itself."""
    if not values or not all(isinstance(one, dict) for one in values):
        return False
    first = values[0].get("role", values[0].get("from"))
    known = isinstance(first, str) and first.strip().lower() in (*ROLES, *CALL_ROLES)
    openai = all("role" in one and any(key in one for key in ("content", *CALL_KEYS)) for one in values)
    return known and (openai or all("from" in one and "value" in one for one in values))


def says_nothing(value: Any) -> bool:
    """Return whether a value is empty, or is text that is an empty value as JSON: `[]`, `{}`, `null`, `""`."""
    if not isinstance(value, str) or len(value) > LONGEST_NOTHING:
        return is_empty(value)
    try:
        return is_empty(value) or is_empty(json.loads(value))
    except ValueError:
        return False


def is_empty(value: Any) -> bool:
    """Return whether a value is null, NaN, a text of white space, or a list or an object without content."""
    kind = type(value)
    if kind is str:
        return not value or value.isspace()
    if kind is float:  # pandas writes NaN for a text that is absent
        return bool(value != value)
    return value is None or (kind in (dict, list, tuple) and not value)


def kind_of(value: Any) -> str:
    """Return what a value is, with its article."""
    names: dict[type, str] = {
        type(None): "null",
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        tuple: "a list",
        bytes: "bytes",
    }
    return "an object" if isinstance(value, Mapping) else names.get(type(value), f"of the type {type(value).__name__}")


def in_a_line(text: str) -> str:
    """Return a text in one line of limited length, with half characters escaped: they cannot be printed."""
    line = " ".join(text.encode(errors="backslashreplace").decode().split())
    return line[:SHOWN_LENGTH] + "…" if len(line) > SHOWN_LENGTH else line or "''"


def from_json(text: str, what: str) -> Any:
    """Parse JSON.

    Raises:
        FormError: the text is not JSON; `what` says in the error what it is.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    # pandas and csv write a list of dicts as Python would, with single quotes
    hint = "; write it with json.dumps" if text.lstrip().startswith(("[{'", "{'")) else ""
    raise FormError(f"{what} is text that is not JSON{hint}")


def to_json(value: Any, what: str) -> str:
    """Return a value as JSON, with letters of every script as they are.

    Raises:
        FormError: the value has something that JSON cannot express; `what` says in the error what it is.
    """
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FormError(f"{what} cannot be written as JSON: {error}") from None


def without_nulls(value: Any) -> Any:
    """Return a value without the keys whose value is null: Arrow gives every object the keys of all others."""
    if isinstance(value, Mapping):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list | tuple) else value
