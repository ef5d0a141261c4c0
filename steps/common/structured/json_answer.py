"""Reads an answer that is JSON, and compares JSON values."""

import json
import re
from typing import Any

FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*)\n?[ \t]*```", re.DOTALL | re.IGNORECASE)


class NotJsonError(Exception):
    """The text is not a JSON object or array, or has something around it."""


class RepeatedKeyError(NotJsonError):
    """The text is JSON, but an object in it has a key twice: what it means depends on its reader (RFC 8259, section 4)."""


class UntypedText(str):
    """An argument of a call in a format that writes no types, such as XML: 3 may be a number or a text."""


def read_json(text: str) -> Any:
    """Return the JSON object or array that an answer is, perhaps inside a fence of Markdown, with nothing else around it.

    Raises:
        RepeatedKeyError: an object has a key twice.
        NotJsonError: it is none; a number or text alone is none, and neither are NaN and Infinity.
    """
    text = text.strip().removeprefix("\ufeff")
    fenced = FENCE.fullmatch(text)
    value = parse_json(fenced[1] if fenced else text)
    if not isinstance(value, dict | list):
        raise NotJsonError("is JSON, but neither an object nor an array")
    return value


def parse_json(text: str) -> Any:
    """Return any JSON value, read strictly.

    Raises:
        RepeatedKeyError: an object has a key twice.
        NotJsonError: the text is not JSON, or nested too deeply to be read.
    """
    repeated: list[str] = []
    try:
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=lambda pairs: _unique(pairs, repeated))
    except (ValueError, RecursionError) as error:
        raise NotJsonError(f"is not JSON: {error}") from None
    if repeated:
        raise RepeatedKeyError(f"has the key {repeated[0]!r} twice in an object")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _unique(pairs: list[tuple[str, Any]], repeated: list[str]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated.append(next(key for key in keys if keys.count(key) > 1))
    return found


def same_json(found: Any, wanted: Any) -> bool:
    """Tell whether two JSON values are equal.

    The order of keys does not matter, that of a list does. 1 equals 1.0, and true does not equal 1. Texts are equal letter by
    letter. A text without a type equals the text and the JSON value that it writes.
    """
    if isinstance(found, UntypedText):
        return _same_untyped(found, wanted)
    if isinstance(wanted, UntypedText):
        return _same_untyped(wanted, found)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same_json(value, wanted[key]) for key, value in found.items())
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same_json, found, wanted))
    return bool(found == wanted)


def _same_untyped(text: UntypedText, value: Any) -> bool:
    if isinstance(value, str):
        return str(text) == str(value)
    try:
        return same_json(parse_json(text), value)
    except NotJsonError:
        # Templates that render arguments with Python's str write them so.
        return {"True": True, "False": False, "None": None}.get(text, text) is value
