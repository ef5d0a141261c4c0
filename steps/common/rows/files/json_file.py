"""Reads JSON files: one object per line, one array, or one object that holds the list of rows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steps.common.rows.files.file_content import BUFFER, open_text
from steps.common.rows.files.json_payload import ROW_COLUMNS, PayloadError, decode, encode
from steps.common.rows.files.raw_record import RawRecord
from steps.common.runtime.errors import UserError

BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"
STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
FLAT = rb'\{(?:[^"{}\[\]]++|' + STRING + rb")*+\}"  # an object without others in it
# What gives an array its structure, after what need not be looked into. A quote that stays alone has no end yet.
TOKEN = re.compile(rb'(?:[^"{}\[\],]++|' + STRING + rb"|" + FLAT + rb')*+(["{}\[\],])', re.DOTALL)
NOT_SPACE = re.compile(r"\S")


def read_json_lines(path: Path) -> Iterator[RawRecord]:
    """Read one record per line. A file that holds an array instead is read as that."""
    with open_text(path) as content:
        head = content.peek().removeprefix(BOM).lstrip(BLANK)
    yield from _array(path) if _is_array(head) else _lines(path)


def read_json_document(path: Path) -> Iterator[RawRecord]:
    """Read an array of records, an object with a list of them, or objects one after another.

    Only an object with a list is read into memory as a whole.
    """
    with open_text(path) as content:
        head = content.peek().removeprefix(BOM).lstrip(BLANK)
    first, _, rest = head.partition(b"\n")
    if _is_array(head):
        yield from _array(path)
    elif rest.strip(BLANK) and _is_whole(first):
        yield from _lines(path)
    else:
        yield from _objects(path)


def _is_array(head: bytes) -> bool:
    """Return whether a file's start is that of one array, and not of an array on every line."""
    first, _, rest = head.partition(b"\n")
    return head.startswith(b"[") and not (rest.strip(BLANK) and _is_whole(first))


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(path: Path) -> Iterator[RawRecord]:
    with open_text(path) as content:
        for number, line in enumerate(content, 1):
            if not line.isspace():
                yield RawRecord(number, line)


def _array(path: Path) -> Iterator[RawRecord]:
    """Divide the array into its items, without parsing them."""
    number = depth = start = at = 0
    with open_text(path) as content:
        buffer = content.read(BUFFER).removeprefix(BOM)
        ends = False
        while not ends:
            for token in TOKEN.finditer(buffer, at):
                kind = token[1]
                if kind == b'"' or token.start() != at:  # within a string, or after one that ends the block
                    break
                at = token.end()
                if kind in (b"[", b"{"):
                    depth += 1
                    start = at if depth == 1 else start
                elif kind in (b"]", b"}") or (kind == b"," and depth == 1):
                    item = buffer[start : at - 1] if depth == 1 else b""
                    if depth == 1 and (kind == b"," or item.strip(BLANK)):
                        number += 1
                        yield RawRecord(number, item.strip(BLANK))
                    start = at if depth == 1 else start
                    depth -= kind != b","
                    if depth == 0:
                        ends = True
                        break
            if ends:
                break
            more = content.read(max(BUFFER, len(buffer) - start))
            if not more:
                raise UserError(f"{path}: the array has no end: the file is cut off after row {number}")
            buffer, at, start = buffer[start:] + more, at - start, 0
        if buffer[at:].strip(BLANK) or content.read(BUFFER).strip(BLANK):
            raise UserError(
                f"{path}: something follows the array, which ends with row {number}; keep one array in the file"
            )


def _objects(path: Path) -> Iterator[RawRecord]:
    with open_text(path) as content:
        try:
            text = content.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{path}: not text in UTF-8") from None
    found = list(_one_by_one(path, text))
    if len(found) == 1 and (rows := _listed(path, found[0])) is not None:
        yield from (RawRecord(number, encode(row)) for number, row in enumerate(rows, 1))
    else:
        yield from (RawRecord(number, one.encode()) for number, one in enumerate(found, 1))


def _one_by_one(path: Path, text: str) -> Iterator[str]:
    """Yield the text of each JSON value."""
    at = 0
    while begin := NOT_SPACE.search(text, at):
        try:
            _, at = json.JSONDecoder().raw_decode(text, begin.start())
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{error.lineno}: not JSON at column {error.colno}: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not JSON that can be read: {error}") from None
        yield text[begin.start() : at]


def _listed(path: Path, text: str) -> list[Any] | None:
    """Return the list of rows that an object holds; None if it is a row itself."""
    try:
        value = decode(text.encode())
    except PayloadError as error:
        raise UserError(f"{path}: {error}") from None
    if ROW_COLUMNS & value.keys():
        return None
    lists = {
        key: one
        for key, one in value.items()
        if isinstance(one, list) and one and all(isinstance(i, dict) for i in one)
    }
    if len(lists) > 1:
        raise UserError(f"{path}: has several lists of rows ({', '.join(lists)}); keep one of them in the file")
    return next(iter(lists.values()), None)
