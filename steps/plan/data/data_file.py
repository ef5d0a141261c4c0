"""The data's digest, and a first look at its rows: what would stop `prepare` stops here, where it can."""

from collections.abc import Iterable
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
CHARACTERS_A_TOKEN = 4.0  # English; the usual rule of thumb


@dataclass(frozen=True)
class DataSize:
    """About how much there is to learn from."""

    rows: int
    tokens: int  # of pairs, on both sides
    asked: int = 0  # tokens of lm-eval's tasks, which are scored with the held-out rows and at no other time
    written: int = 0  # tokens of the answers that a model writes to those at the most

    @property
    def scored(self) -> int:
        """Tokens that an evaluation reads."""
        return self.tokens + self.asked


def look(data: Data, objective: str) -> tuple[ResolvedData, DataSize, DataSize]:
    """Fetch the data files where they lie elsewhere, hash them and read their first rows.

    Args:
        data: the recipe's.
        objective: the recipe's, which says of what kind the rows have to be.

    Returns:
        The files by digest, and the sizes of the training and the held-out rows, extrapolated from the first rows.

    Raises:
        UserError: a file is missing, empty, of an unknown kind, with a bad row or one that is not of the kind that the
            objective learns from, or with a single row.
    """
    train, train_size = _file(data.train, data.on_bad_row, objective)
    if not data.validation:
        held = DataSize(
            round(train_size.rows * data.validation_share), round(train_size.tokens * data.validation_share)
        )
        rest = DataSize(train_size.rows - held.rows, train_size.tokens - held.tokens)
        return ResolvedData(train=train, validation=None), rest, held
    validation, validation_size = _file(data.validation, data.on_bad_row, objective)
    return ResolvedData(train=train, validation=validation), train_size, validation_size


def _file(name: str, on_bad_row: str, objective: str) -> tuple[DataFile, DataSize]:
    path, fetched = located(name)
    good: list[Row] = []
    seen = last_line = 0
    for row in islice(read_rows(path), HEAD_ROWS):
        seen += 1
        if not isinstance(row, BadRow):
            check_kind(*row, objective)
            good.append(row[1])
            last_line = row[0].line
        elif on_bad_row == "stop":
            raise UserError(f"{row}; mend it, or set data.on_bad_row=skip")
    if not good:
        raise UserError(f"{path}: none of its first {seen} rows can be used")
    if seen == 1:
        raise UserError(f"{path}: has one row; at least two are needed, one to learn from and one to check with")
    size = path.stat().st_size
    read = [reading for row in good for reading in row.readings]
    characters = sum(len(reading.content) for reading in read)
    rows = len(good) if seen < HEAD_ROWS else round(_times(path, size, last_line) * len(good))
    tokens = round(rows / len(good) * (characters / CHARACTERS_A_TOKEN + TEMPLATE_TOKENS * len(read)))
    return pinned(path, fetched), DataSize(rows, tokens)


def located(name: str, kinds: Iterable[str] = KINDS) -> tuple[Path, LocalCopy | None]:
    """Return where a file is on this machine, and what it is a copy of where it lies elsewhere.

    Args:
        name: its path or URL.
        kinds: the suffixes that it may have where it lies elsewhere: those of files of rows.

    Raises:
        UserError: it cannot be fetched.
    """
    fetched = fetch(name, kinds) if "://" in name else None
    return Path(fetched.path if fetched else name), fetched


def pinned(path: Path, fetched: LocalCopy | None) -> DataFile:
    """Return a file by its digest; hashed once only."""
    digest = fetched.sha256 if fetched else sha256_of(path)
    source = fetched.pinned if fetched else ""
    return DataFile(path=str(path), sha256=digest, bytes=path.stat().st_size, source=source)


def _times(path: Path, size: int, lines: int) -> float:
    """Return how many times as much as its first `lines` a file holds, of a Parquet file as its first rows."""
    if KINDS[path.suffix.lower()] == "parquet":
        from pyarrow import parquet

        return float(parquet.ParquetFile(path).metadata.num_rows) / lines
    with path.open("rb") as file:
        return size / sum(len(line) for line in islice(file, lines))
