"""Finds the recipe's data files, hashes them and reads their first rows: most of what would stop `prepare` stops here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from recipes.data import Data
from steps.common.handover.resolved import DataFile, ResolvedData
from steps.common.rows.read_rows import KINDS, read_rows
from steps.common.rows.row import BadRow, Row
from steps.common.rows.row_kinds import check_kind
from steps.common.runtime.errors import UserError
from steps.common.storage.files import sha256_of
from steps.plan.data.local_copy import LocalCopy, fetch

HEAD_ROWS = 2000
TEMPLATE_TOKENS = 20  # what a chat template adds to a row, roughly
CHARACTERS_PER_TOKEN = 4.0  # English; the usual rule of thumb


@dataclass(frozen=True)
class DataSize:
    """The estimated size of a set of rows."""

    rows: int
    tokens: int  # with pairs, of both sides
    asked: int = 0  # tokens of the lm-eval tasks, which are scored together with the held-out rows
    written: int = 0  # tokens of the answers to those tasks, at most

    @property
    def scored(self) -> int:
        """Tokens that an evaluation reads."""
        return self.tokens + self.asked


@dataclass(frozen=True)
class InspectedData:
    """The data files by digest, and the sizes of the training and held-out rows, extrapolated from the first rows."""

    files: ResolvedData
    train: DataSize
    held_out: DataSize


def inspect_data(data: Data, objective: str, readable: Callable[[str], bool] = lambda _: True) -> InspectedData | None:
    """Download the data files if they are remote, hash them and read their first rows.

    Args:
        data: the recipe's part.
        objective: the recipe's objective, which determines the kind of rows that it needs.
        readable: tells whether this machine can read a file; the others are left out.

    Returns:
        None if a file was left out.

    Raises:
        UserError: a file is missing, empty, of an unknown kind, has a single row, a bad row, or a row of the wrong kind for
            the objective.
    """
    train = _inspect(data.train, data.on_bad_row, objective) if readable(data.train) else None
    if not data.validation:
        return _with_share_held_out(*train, data.validation_share) if train else None
    validation = _inspect(data.validation, data.on_bad_row, objective) if readable(data.validation) else None
    if not train or not validation:
        return None
    return InspectedData(ResolvedData(train=train[0], validation=validation[0]), train[1], validation[1])


def _with_share_held_out(file: DataFile, size: DataSize, share: float) -> InspectedData:
    held_out = DataSize(round(size.rows * share), round(size.tokens * share))
    train = DataSize(size.rows - held_out.rows, size.tokens - held_out.tokens)
    return InspectedData(ResolvedData(train=file, validation=None), train, held_out)


def _inspect(name: str, on_bad_row: str, objective: str) -> tuple[DataFile, DataSize]:
    path, fetched = locate(name)
    good: list[Row] = []
    seen = last_line = 0
    for row in islice(read_rows(path), HEAD_ROWS):
        seen += 1
        if not isinstance(row, BadRow):
            check_kind(*row, objective)
            good.append(row[1])
            last_line = row[0].line
        elif on_bad_row == "stop":
            raise UserError(f"{row}; fix the row, or set data.on_bad_row=skip")
    if not good:
        raise UserError(f"{path}: none of its first {seen} rows can be used")
    if seen == 1:
        raise UserError(f"{path}: has one row; at least two are needed, one to train on and one to hold out")
    size = path.stat().st_size
    read = [reading for row in good for reading in row.readings]
    characters = sum(len(reading.content) for reading in read)
    rows = len(good) if seen < HEAD_ROWS else round(_times(path, size, last_line) * len(good))
    tokens = round(rows / len(good) * (characters / CHARACTERS_PER_TOKEN + TEMPLATE_TOKENS * len(read)))
    return pin_file(path, fetched), DataSize(rows, tokens)


def locate(name: str, kinds: Iterable[str] = KINDS) -> tuple[Path, LocalCopy | None]:
    """Return the path of a file on this machine, and the record of its download if the file is remote.

    Args:
        name: path or URL.
        kinds: the suffixes that a remote file may have; by default those of files of rows.

    Raises:
        UserError: there is no such file, or access is denied.
        UnreachableError: the source did not answer, even when asked again.
    """
    fetched = fetch(name, kinds) if "://" in name else None
    return Path(fetched.path if fetched else name), fetched


def pin_file(path: Path, fetched: LocalCopy | None) -> DataFile:
    """Return a file with its digest, which a download has already computed."""
    digest = fetched.sha256 if fetched else sha256_of(path)
    source = fetched.pinned if fetched else ""
    return DataFile(path=str(path), sha256=digest, bytes=path.stat().st_size, source=source)


def _times(path: Path, size: int, lines: int) -> float:
    """Return how many times larger a file is than its first `lines`; a Parquet file, than its first rows."""
    if KINDS[path.suffix.lower()] == "parquet":
        from pyarrow import parquet

        return float(parquet.ParquetFile(path).metadata.num_rows) / lines
    with path.open("rb") as file:
        return size / sum(len(line) for line in islice(file, lines))
