"""What a data file's name says of its kind and its compression."""

from pathlib import PurePath

from steps.common.runtime.errors import UserError

KINDS = {
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
COMPRESSED = (".gz", ".zst", ".bz2")
# What a file may be in spite of its name: by its first bytes, with the suffix that it should have.
STARTS = {
    b"\x1f\x8b": ("compressed with gzip", ".gz"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", ".zst"),
    b"BZh": ("compressed with bzip2", ".bz2"),
    b"PAR1": ("a Parquet file", ".parquet"),
    b"ARROW1": ("an Arrow file", ".arrow"),
    b"PK\x03\x04": ("a zip archive or an Excel file", ""),
}
LFS_POINTER = b"version https://git-lfs"
WEB_PAGES = (b"<!doctype html", b"<html")


def suffixes(name: str) -> tuple[str, str]:
    """Return the suffix that names a file's kind, and that of its compression or an empty text."""
    path = PurePath(name.lower())
    packed = path.suffix if path.suffix in COMPRESSED else ""
    return PurePath(path.stem).suffix if packed else path.suffix, packed


def is_known(name: str) -> bool:
    """Return whether a file of that name is one of rows."""
    return suffixes(name)[0] in KINDS


def check_known(name: str) -> None:
    """Refuse a name that is not one of a file of rows.

    Raises:
        UserError: its suffix is none of `KINDS`, with or without one of `COMPRESSED`.
    """
    if not is_known(name):
        raise UserError(
            f"{name}: unknown kind of data file {suffixes(name)[0]!r}; known are {', '.join(KINDS)}, and each of them "
            f"compressed ({', '.join(COMPRESSED)})"
        )


def check_start(path: str, start: bytes) -> None:
    """Refuse a file whose first bytes show that it is not what its name says.

    Args:
        path: the file.
        start: its first bytes, at least 32 unless it is shorter.

    Raises:
        UserError: it is a pointer of git-lfs, a web page, or of another kind.
    """
    if start.startswith(LFS_POINTER):
        raise UserError(f"{path}: is a pointer of git-lfs and not the data; fetch them with 'git lfs pull'")
    if start.lstrip().lower().startswith(WEB_PAGES):
        raise UserError(f"{path}: is a web page and not data; check its address")
    for first, (what, suffix) in STARTS.items():
        if start.startswith(first) and (not suffix or suffix not in suffixes(path)):
            remedy = f"rename it to end in {suffix}" if suffix else "save its rows as CSV"
            raise UserError(f"{path}: is {what}, and its name says otherwise; {remedy}")
