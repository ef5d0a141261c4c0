"""Reads CSV and TSV files, in whatever encoding and with whatever separator a spreadsheet has written them."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from steps.common.rows.files.file_content import BUFFER, UTF_16, open_content
from steps.common.rows.files.file_kind import suffixes
from steps.common.rows.files.json_payload import encode
from steps.common.rows.files.raw_record import RawRecord
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say

SEPARATORS = (",", ";", "\t", "|")
LONGEST_CELL = 1 << 30  # characters; csv's own limit is 131072
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # bytes that "surrogateescape" has kept
EXCEL_HINT = re.compile(r"sep=(.)\r?\n?")  # a first line that Excel writes and reads
QUOTED = re.compile(r'"[^"]*"')


def read_csv(path: Path) -> Iterator[RawRecord]:
    """Read one record per row, with the line at which it begins. The first row has the names of the columns.

    Raises:
        UserError: a column's name is given twice.
    """
    csv.field_size_limit(LONGEST_CELL)
    with open_content(path) as content:
        encoding = _encoding(path)
        text = io.TextIOWrapper(content, encoding, "surrogateescape", newline="")
        before, separator = _separator(path, encoding)
        for _ in range(before):
            text.readline()
        reader = csv.reader(text, delimiter=separator, strict=True)
        names: list[str] = []
        while True:
            line = before + reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if not names:
                    raise UserError(f"{path}:{line}: the first row is not CSV: {error}") from None
                last = before + reader.line_num
                until = f" (the row ends in line {last})" if last > line else ""
                yield RawRecord(line, b"", f"not CSV: {error}{until}")
                continue
            if not any(cells):
                continue
            if not names:
                names = _names(path, cells)
            elif len(cells) > len(names):
                yield RawRecord(line, b"", f"has more cells than the {len(names)} columns of the first row")
            elif any(map(NOT_UTF8.search, cells)):
                yield RawRecord(line, b"", "not text in UTF-8")
            else:
                absent = [None] * (len(names) - len(cells))  # a spreadsheet leaves out empty cells at a row's end
                yield RawRecord(line, encode(dict(zip(names, [*cells, *absent], strict=True))))


def _names(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() or f"column {number}" for number, cell in enumerate(cells, 1)]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UserError(f"{path}: the column {twice!r} stands twice in the first row; rename one of them")
    return names


def _encoding(path: Path) -> str:
    """Return the encoding of a file.

    One with some bytes that are not UTF-8 is still UTF-8 if more of its characters are; their rows are bad rows then.
    """
    right = wrong = 0
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    with open_content(path) as content:
        if content.peek(2).startswith(UTF_16):
            return "utf-16"
        seen = set[int]()
        while block := content.read(BUFFER):
            if block.isascii() and not decoder.getstate()[0]:
                continue
            text = decoder.decode(block)
            bad = NOT_UTF8.findall(text)
            seen |= {ord(one) - 0xDC00 for one in bad}
            wrong += len(bad)
            right += sum(not one.isascii() for one in text) - len(bad)
    if right >= wrong:
        return "utf-8-sig"
    try:
        bytes(seen).decode("cp1252")
        encoding, called = "cp1252", "Windows-1252"
    except UnicodeDecodeError:
        encoding, called = "latin-1", "Latin-1"
    say(f"{path}: is not UTF-8; read as {called}. If its letters look wrong, save it as CSV UTF-8")
    return encoding


def _separator(path: Path, encoding: str) -> tuple[int, str]:
    """Return the number of lines before the names of the columns, and what separates those names."""
    with open_content(path) as content:
        text = io.TextIOWrapper(content, encoding, "surrogateescape", newline="")
        first = text.readline()
        if hint := EXCEL_HINT.fullmatch(first):
            return 1, hint[1]
        while first and not first.strip():
            first = text.readline()
    outside = QUOTED.sub("", first)
    counts = {separator: outside.count(separator) for separator in SEPARATORS}
    usual = "\t" if suffixes(path.name)[0] == ".tsv" else ","
    return 0, max(SEPARATORS, key=lambda one: (counts[one], one == usual)) if any(counts.values()) else usual
