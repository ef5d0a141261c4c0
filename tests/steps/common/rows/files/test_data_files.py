"""Data files: every kind, compression, encoding and separator gives the same rows; what is damaged is told in a line."""

import bz2
import datetime
import gzip
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from steps.common.rows.conversation import Conversation
from steps.common.rows.files.json_file import _one_by_one
from steps.common.rows.files.json_payload import decode
from steps.common.rows.files.raw_record import RawRecord
from steps.common.rows.files.row_count import record_count
from steps.common.rows.read_rows import READERS, parse, read_raw, read_rows
from steps.common.rows.row import BadRow, Row, RowPlace
from steps.common.runtime.errors import UserError

ROWS = [
    {"prompt": "Öffnet ihr, um 9?", "completion": 'ja; "immer"\nab 9 Uhr'},
    {"prompt": "wo | wie", "completion": "hier"},
]
READ = [Row(Conversation.of(("user", one["prompt"]), ("assistant", one["completion"]))) for one in ROWS]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = pa.Table.from_pylist(ROWS)
CUT = "cannot be read"


def table(separator: str, end: str = "\r\n") -> str:
    quoted = [['"' + cell.replace('"', '""') + '"' for cell in row.values()] for row in ROWS]
    return end.join(separator.join(cells) for cells in [list(ROWS[0]), *quoted]) + end


def arrow(make: Callable[..., Any]) -> bytes:
    sink = io.BytesIO()
    with make(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return sink.getvalue()


def as_parquet(rows: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), sink, **options)
    return sink.getvalue()


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def written(folder: Path, name: str, content: bytes | str) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def rows(file: Path) -> list[Row]:
    found = list(read_rows(file))
    assert [str(row) for row in found if isinstance(row, BadRow)] == []
    return [row[1] for row in found if not isinstance(row, BadRow)]


KINDS: dict[str, tuple[str, bytes | str]] = {
    "lines": ("a.jsonl", LINES),
    "lines of Windows, with a byte order mark and blank lines": (
        "a.ndjson",
        "\ufeff" + LINES.replace("\n", "\r\n\r\n"),
    ),
    "lines in UTF-16": ("a.jsonl", LINES.encode("utf-16")),
    "array": ("a.json", json.dumps(ROWS)),
    "array, indented, in UTF-16": ("a.json", json.dumps(ROWS, indent=2).encode("utf-16")),
    "array, with a byte order mark": ("a.json", "\ufeff" + json.dumps(ROWS, ensure_ascii=False)),
    "array that is called lines": ("a.jsonl", json.dumps(ROWS, indent=1)),
    "array on one line that is called lines": ("a.jsonl", json.dumps(ROWS) + "\n"),
    "lines that are called JSON": ("a.json", LINES),
    "objects one after another": ("a.json", "\n".join(json.dumps(row, indent=1) for row in ROWS)),
    "object with a list": ("a.json", json.dumps({"version": "1", "tags": ["x"], "data": ROWS})),
    "CSV": ("a.csv", table(",")),
    "CSV of Excel": ("a.csv", "\ufeff" + table(";")),
    "CSV that says its separator": ("a.csv", "sep=|\r\n" + table("|")),
    "CSV in UTF-16": ("a.csv", table("\t").encode("utf-16")),
    "CSV in Windows-1252": ("a.csv", table(";", "\n").encode("cp1252")),
    "CSV with spaces and lines without cells": ("a.csv", table("|").replace("prompt|", "\r\n prompt | ") + "|\r\n"),
    "TSV": ("a.tsv", table("\t")),
    "Parquet": ("a.parquet", as_parquet(TABLE)),
    "Parquet, dictionary and binary": (
        "a.parquet",
        as_parquet(
            pa.table({"prompt": TABLE["prompt"].dictionary_encode(), "completion": TABLE["completion"].cast("binary")})
        ),
    ),
    "Arrow file": ("a.arrow", arrow(pa.ipc.new_file)),
    "Arrow stream": ("a.arrow", arrow(pa.ipc.new_stream)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_its_rows(tmp_path: Path, kind: str) -> None:
    name, content = KINDS[kind]
    assert rows(written(tmp_path, name, content)) == READ


@pytest.mark.parametrize(
    "kind", ["lines", "array", "CSV in Windows-1252", "TSV", "Parquet", "Arrow file", "Arrow stream"]
)
@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".zst", zstd)])
def test_every_kind_may_be_compressed(tmp_path: Path, kind: str, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    name, content = KINDS[kind]
    raw = content.encode() if isinstance(content, str) else content
    assert rows(written(tmp_path, f"{name}{suffix}", pack(raw))) == READ
    if kind == "lines":  # two streams, one after the other, as parallel programs write them
        assert rows(written(tmp_path, f"{name}{suffix}", pack(raw[:50]) + pack(raw[50:]))) == READ


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_an_array_is_divided_wherever_its_blocks_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("steps.common.rows.files.json_file.BUFFER", size)
    items: list[Any] = [
        {"text": 'a "quoted\\" ]},{[ Ö'},
        {"x": [[], {"y": "}"}], "text": "b" * 50},
        [1, 2],
        "s,t",
        7,
        {},
    ]
    file = written(
        tmp_path, "a.json", " [\n" + " ,\n".join(json.dumps(item, ensure_ascii=False) for item in items) + "\n] \n"
    )
    assert [json.loads(record.payload) for record in read_raw(file)] == items
    assert [record.line for record in read_raw(file)] == [1, 2, 3, 4, 5, 6]


class CountedText(str):
    """A text that counts the characters that are copied out of it."""

    copied = 0

    def __getitem__(self, place: Any) -> str:
        found = super().__getitem__(place)
        self.copied += len(found)
        return found


def test_each_of_several_objects_in_a_file_is_copied_once() -> None:
    objects = [json.dumps({"text": f"{number} b"}, indent=1) for number in range(400)]
    text = CountedText("\n".join(objects) + "\n")
    assert list(_one_by_one(Path("a.json"), text)) == objects
    assert text.copied == sum(map(len, objects))


def test_a_warning_says_which_encoding_was_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows(written(tmp_path, "a.csv", "text\nschön\n".encode("cp1252")))
    rows(written(tmp_path, "b.csv", "text\nschön \x81\n".encode("latin-1")))
    told = capsys.readouterr().err
    assert "a.csv: is not UTF-8; read as Windows-1252" in told
    assert "b.csv: is not UTF-8; read as Latin-1" in told


BAD: dict[str, tuple[str, bytes | str, int, str]] = {
    "half of a character": ("a.jsonl", r'{"text": "a \ud83d"}', 1, r"'text' has half of a character: \ud83d"),
    "half in a column that means nothing": ("a.jsonl", r'{"text": "a", "x": [{"y": ["\udc3d"]}]}', 1, "'x' has half"),
    "half in a key": ("a.json", r'[{"text": "a", "x": {"\udc3d": 1}}]', 1, "'x' has half"),
    "half in JSON in a cell": (
        "a.csv",
        'messages\n"[{""role"":""user"",""content"":""a""},{""role"":""assistant"",""content"":""\\ud83d""}]"\n',
        2,
        "half of a character",
    ),
    "key given twice": ("a.jsonl", '{"text": "a", "text": "b"}', 1, "the key 'text' is given twice in one object"),
    "key given twice, deeper": ("a.jsonl", '{"text": "a", "x": {"y": 1, "y": 2}}', 1, "the key 'y' is given twice"),
    "NaN as text": ("a.jsonl", '{"text": NaN}', 1, "'text' is null, not text"),
    "number without end": ("a.jsonl", '{"text": "a", "x": ' + "9" * 5000 + "}", 1, "too many digits"),
    "nested without end": ("a.jsonl", '{"text": ' + "[" * 100_000, 1, "nested too deeply"),
    "not UTF-8": ("a.jsonl", b'{"text": "\xff"}', 1, "not text in UTF-8"),
    "array on each line": ("a.jsonl", '[{"text": "a"}]\n[{"text": "b"}]\n', 1, "not an object"),
    "item that is no JSON": ("a.json", '[{"text": "a"}, {"text": b}]', 2, "not JSON at column 10"),
    "quote in the middle": ("a.csv", 'text\n"a" b\nc\n', 2, "not CSV"),
    "quote without end": ("a.csv", 'text\na\n"b\nc\n', 3, "not CSV: a quote has no end"),
    "quote that takes other rows": (
        "a.tsv",
        'prompt\tcompletion\n"wo\thier\nwo\tda\n"wie" so\n\tx\n',
        2,
        "not CSV: '\t' expected",
    ),
    "more cells than columns": ("a.csv", "prompt,completion\n\na,b,c\n", 3, "has more cells than the 2 columns"),
    "a few bytes that are not UTF-8": ("a.csv", "text\näöü\n".encode() + b"\xff\n", 3, "not text in UTF-8"),
    "cell of Parquet that is not UTF-8": (
        "a.parquet",
        as_parquet(pa.table({"text": pa.array([b"a", b"caf\xe9"]).view("string"), "x": [1, 2]})),
        2,
        "the text in 'text' is not UTF-8",
    ),
    "time that no calendar has": (
        "a.parquet",
        as_parquet(pa.table({"text": ["a", "b"], "at": pa.array([0, 2**62], pa.timestamp("us"))})),
        2,
        "'at' cannot be read: ",
    ),
    "map with a key twice": (
        "a.parquet",
        as_parquet(pa.table({"text": ["a"], "m": pa.array([[("k", 1), ("k", 2)]], pa.map_("string", "int64"))})),
        1,
        "'m' cannot be read: ",
    ),
    "text of Parquet that is bytes": (
        "a.parquet",
        as_parquet([{"text": b"\xff\xfe"}]),
        1,
        "'text' is an object, not text",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_one_bad_row(tmp_path: Path, case: str) -> None:
    name, content, line, reason = BAD[case]
    file = written(tmp_path, name, content)
    bad = [row for row in read_rows(file) if isinstance(row, BadRow)]
    assert bad[0].place == RowPlace(str(file), line)
    assert reason in bad[0].reason
    assert len(bad) == {"array on each line": 2, "quote that takes other rows": 3}.get(case, 1)
    str(bad[0]).encode()


def test_the_rows_around_a_bad_one_are_read(tmp_path: Path) -> None:
    texts = [b"one", b"caf\xe9", b"three"]
    invalid = as_parquet(pa.table({"text": pa.array(texts).view("string")}))
    file = written(tmp_path, "a.parquet", invalid)
    good = [row[1].text for row in read_rows(file) if not isinstance(row, BadRow)]
    assert good == ["one", "three"]
    with (
        pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, pa.schema({"text": "string"})) as out,
    ):
        out.write_table(pa.table({"text": pa.array(texts).view("string")}))
    assert [record.reason for record in read_raw(tmp_path / "a.arrow")] == ["", "the text in 'text' is not UTF-8", ""]
    csv = written(tmp_path, "a.csv", 'text\none\n"two" x\nthree\n')
    assert [row[1].text for row in read_rows(csv) if not isinstance(row, BadRow)] == ["one", "three"]
    stray = written(tmp_path, "b.csv", 'text\none\n"two\nthree\n\n"fo\nur"\n"five\nsix\n')
    found = [(row.place.line if isinstance(row, BadRow) else row[1].text) for row in read_rows(stray)]
    assert found == ["one", 3, "three", "fo\nur", 8, "six"]


MANY = "".join(json.dumps({"text": f"{number} " + "x" * (number % 90)}) + "\n" for number in range(30_000))
PACKED = gzip.compress(MANY.encode())
PAGES = as_parquet([{"text": f"row {number}"} for number in range(20_000)], row_group_size=5000, compression="snappy")


def with_noise(content: bytes, at: int) -> bytes:
    return content[:at] + bytes(200) + content[at + 200 :]


REFUSED: dict[str, tuple[str, bytes | str | None, str]] = {
    "none": ("a.jsonl", None, "no such data file"),
    "empty": ("a.jsonl", "", "is empty"),
    "unknown kind": ("a.txt", "x", "unknown kind of data file '.txt'; known are .jsonl, .ndjson, .json, .csv"),
    "unknown kind, compressed": ("a.txt.gz", "x", "unknown kind of data file '.txt'"),
    "no Parquet": ("a.parquet", "x", "not a Parquet file"),
    "no Arrow": ("a.arrow", "xxxxxxxxxxxx", "not an Arrow file"),
    "no gzip": ("a.jsonl.gz", '{"text": "x"}', CUT),
    "no zstd": ("a.jsonl.zst", '{"text": "x"}', CUT),
    "gzip by another name": (
        "a.jsonl",
        PACKED,
        "is compressed with gzip, and its name says otherwise; rename it to end in .gz",
    ),
    "Parquet by another name": ("a.csv", PAGES, "is a Parquet file, and its name says otherwise"),
    "Excel": (
        "a.csv",
        b"PK\x03\x04",
        "is a zip archive or an Excel file, and its name says otherwise; save its rows as CSV",
    ),
    "pointer of git-lfs": ("a.parquet", "version https://git-lfs.github.com/spec/v1\n", "is a pointer of git-lfs"),
    "web page": ("a.jsonl", "\n<!DOCTYPE html><html>", "is a web page and not data"),
    "gzip cut off": ("a.jsonl.gz", PACKED[: len(PACKED) // 2], "cannot be read after row "),
    "gzip with noise": ("a.jsonl.gz", with_noise(PACKED, len(PACKED) // 2), CUT),
    "bzip2 cut off": ("a.jsonl.bz2", bz2.compress(MANY.encode())[:-2000], CUT),
    "zstd cut off": ("a.jsonl.zst", zstd(MANY.encode())[:-200], CUT),
    "Parquet cut off": ("a.parquet", PAGES[:-100], "not a Parquet file"),
    "Parquet with a corrupt page": ("a.parquet", with_noise(PAGES, len(PAGES) // 2), CUT),
    "Arrow cut off": ("a.arrow", arrow(pa.ipc.new_stream)[:-60], CUT),
    "array cut off": ("a.json", '[{"text": "a"}, {"text": "b', "the array has no end: the file is cut off after row 1"),
    "text after an array": (
        "a.json",
        '[{"text": "a"}] {"text": "b"}',
        "something follows the array, which ends with row 1",
    ),
    "UTF-16 cut off": ("a.jsonl", MANY.encode("utf-16")[:-1], CUT),
    "two lists": ("a.json", '{"a": [{"text": "x"}], "b": [{"text": "y"}]}', "has several lists of rows (a, b)"),
    "UTF-16 without a mark": (
        "a.csv",
        "text\nab\n".encode("utf-16-le"),
        "has null characters, as UTF-16 without a byte order mark",
    ),
    "header that is no CSV": ("a.csv", '"text\na\n', "a.csv:1: the first row is not CSV: a quote has no end"),
    "JSON cut off": ("a.json", '{\n"text": "a"', "a.json:2: not JSON at column"),
    "column twice in CSV": ("a.csv", "prompt, prompt\na,b\n", "the column 'prompt' stands twice in the first row"),
    "column twice in Parquet": (
        "a.parquet",
        as_parquet(pa.table([["a"], ["b"]], names=["text", "text"])),
        "has two columns 'text'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, case: str) -> None:
    name, content, told = REFUSED[case]
    if content is not None:
        written(tmp_path, name, content)
    with pytest.raises(UserError) as caught:
        list(read_rows(tmp_path / name))
    assert told in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


DAMAGES = """
import sys
from pathlib import Path
from steps.common.rows.read_rows import read_rows
from steps.common.runtime.errors import UserError

file = Path(sys.argv[1])
content = file.read_bytes()
for at in range(8, len(content) - 4, 4):
    file.write_bytes(content[:at] + b"\\x07\\x01\\x00\\x00" + content[at + 4:])
    try:
        list(read_rows(file))
    except UserError as error:
        assert "\\n" not in str(error)
"""


@pytest.mark.parametrize("make", [pa.ipc.new_file, pa.ipc.new_stream])
def test_a_wrong_offset_in_an_arrow_file_does_not_end_the_process(tmp_path: Path, make: Callable[..., Any]) -> None:
    messages = [{"role": "user", "content": "wo"}, {"role": "assistant", "content": "hier"}]
    chats = pa.Table.from_pylist([{"messages": messages, "note": "x"}] * 3)
    sink = io.BytesIO()
    with make(sink, chats.schema) as writer:
        writer.write_table(chats)
    file = written(tmp_path, "a.arrow", sink.getvalue())
    done = subprocess.run([sys.executable, "-c", DAMAGES, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[-300:]) == (0, "")


@pytest.mark.parametrize(
    "error",
    [
        pa.ArrowInvalid("so"),
        pa.ArrowNotImplementedError("so"),
        pa.ArrowMemoryError("so"),
        pa.ArrowException("so"),
        OSError(5, "so"),
    ],
)
def test_each_error_of_a_reader_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def failing(_: Path) -> Iterator[RawRecord]:
        yield RawRecord(1, b'{"text": "a"}')
        raise error

    monkeypatch.setitem(READERS, "parquet", failing)
    file = written(tmp_path, "a.parquet", PAGES)
    with pytest.raises(
        UserError, match=re.escape(f"{file}: cannot be read after row 1: so; make or fetch the file again")
    ):
        list(read_raw(file))


def test_what_could_be_read_comes_before_the_error(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jsonl.gz", PACKED[: len(PACKED) // 2])
    found: list[RawRecord] = []
    with pytest.raises(UserError) as caught:
        found.extend(read_raw(file))  # a list keeps what it was given before an error
    assert len(found) > 1000
    assert f"after row {found[-1].line}: " in str(caught.value)


def test_columns_of_tables_have_a_sensible_json_form(tmp_path: Path) -> None:
    day = datetime.datetime(2025, 1, 2, 3, 4, 5)
    cells = {
        "day": day,
        "price": Decimal("1.50"),
        "count": Decimal("3"),
        "file": b"text",
        "image": b"\xff",
        "score": float("nan"),
    }
    messages = [
        {"role": "user", "content": "a", "tool_calls": None},
        {"role": "assistant", "content": "b", "tool_calls": ["x"]},
    ]
    tables = pa.Table.from_pylist([{**cells, "messages": messages}])
    pairs = pa.array([[("a", 1), ("b", None)]], pa.map_("string", "int64"))
    file = written(tmp_path, "a.parquet", as_parquet(tables.append_column("map", pairs)))
    [record] = read_raw(file)
    assert decode(record.payload) == {
        "day": "2025-01-02T03:04:05",
        "price": 1.5,
        "count": 3,
        "file": "text",
        "image": {"base64": "/w=="},
        "score": None,
        "messages": messages,
        "map": {"a": 1, "b": None},
    }


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.csv.zst", "a.parquet", "a.arrow"])
def test_the_number_of_rows_is_told_by_the_first_ones(tmp_path: Path, name: str) -> None:
    texts = [{"text": f"{number} " + "x" * (number * 7 % 90)} for number in range(20_000)]
    contents: dict[str, Callable[[], bytes]] = {
        ".jsonl": MANY.encode,
        ".json": lambda: json.dumps(texts, indent=1).encode(),
        ".csv": lambda: ("text\n" + "".join(f"{row['text']}\n" for row in texts)).encode(),
        ".parquet": lambda: as_parquet(texts),
    }
    plain = Path(name.removesuffix(".gz").removesuffix(".zst"))
    if plain.suffix == ".arrow":
        with pa.ipc.new_stream(str(tmp_path / name), pa.schema({"text": "string"})) as out:
            out.write_table(pa.Table.from_pylist(texts))
    else:
        content = contents[plain.suffix]()
        written(
            tmp_path,
            name,
            gzip.compress(content) if name.endswith("gz") else zstd(content) if name.endswith("zst") else content,
        )
    every = list(read_raw(tmp_path / name))
    exact = plain.suffix in (".parquet", ".arrow")
    assert record_count(tmp_path / name, every[:500]) == pytest.approx(len(every), rel=0 if exact else 0.1)


def test_a_record_can_be_parsed_elsewhere(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jsonl", LINES)
    place = RowPlace("elsewhere", 7)
    [first, _] = read_raw(file)
    assert parse(place, first) == (place, READ[0])
    assert parse(place, RawRecord(7, b"", "why")) == BadRow(place, "why")
