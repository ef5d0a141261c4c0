"""A record's columns as JSON: how they are written for a `RawRecord`, and read from one."""

import base64
import codecs
import json
import re
from decimal import Decimal
from typing import Any

# The columns by which a row is recognised: an object with one of them is a row, not a list of rows with a name.
ROW_COLUMNS = {
    "messages",
    "conversations",
    "prompt",
    "completion",
    "instruction",
    "question",
    "input",
    "output",
    "response",
    "text",
    "chosen",
    "rejected",
}
HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # an escape that may be half of a character
WHERE_HALF = re.compile("[\ud800-\udfff]")


class PayloadError(Exception):
    """The payload is not an object of columns; the text says why."""


class _DoubleKeyError(ValueError):
    """An object has a key twice."""


def encode(columns: Any) -> bytes:
    """Return columns as JSON in UTF-8.

    Times become text in ISO 8601, decimals become numbers, and bytes become text if they are UTF-8, else {"base64": …}.
    """
    text = ENCODER.encode(columns)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(columns, default=_plain).encode()


def decode(payload: bytes) -> dict[str, Any]:
    """Return the columns of a payload. NaN and the infinities, which some programs write for a missing value, are None.

    Raises:
        PayloadError: the payload is not UTF-8, not JSON, not an object, or has a key twice or half of a character.
    """
    try:
        value = DECODER.decode(payload.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n").decode())
    except UnicodeDecodeError:
        raise PayloadError("not text in UTF-8") from None
    except json.JSONDecodeError as error:
        raise PayloadError(f"not JSON at column {error.colno}: {error.msg}") from None
    except _DoubleKeyError as error:
        raise PayloadError(str(error)) from None
    except ValueError:  # Python reads no number of more than 4300 digits
        raise PayloadError("has a number with too many digits") from None
    except RecursionError:
        raise PayloadError("nested too deeply") from None
    if not isinstance(value, dict):
        raise PayloadError("not an object")
    if HALF.search(payload):
        for name, one in value.items():
            _check_whole(name, one)
    return value


def _check_whole(name: str, value: Any) -> None:
    """Check that a column has no half of a character (a lone surrogate), at any depth.

    Raises:
        PayloadError: it has one, which no tokenizer and no file takes.
    """
    if half := WHERE_HALF.search(json.dumps([name, value], ensure_ascii=False, default=str)):
        escape = f"\\u{ord(half[0]):04x}"
        raise PayloadError(f"{ascii(name)[1:-1]!r} has half of a character: {escape} without its other half")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _DoubleKeyError(f"the key {twice!r} is given twice in one object")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


ENCODER = json.JSONEncoder(ensure_ascii=False, default=_plain)
DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=lambda _: None)
