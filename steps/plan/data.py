"""The data's digest, and a first look at its rows: what would stop `prepare` stops here, where it can."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from recipes.recipe import Data
from steps.common.errors import UserError
from steps.common.files import sha256_of
from steps.common.resolved import DataFile, ResolvedData
from steps.common.rows.read import read_rows
from steps.common.rows.row import BadRow, Row
from steps.plan.remote.fetch import fetch

HEAD_ROWS = 2000
TEMPLATE_TOKENS = 20  # what a chat template adds to a row, roughly
CHARACTERS_A_TOKEN = 4.0  # English; the usual rule of thumb


@dataclass(frozen=True)
class DataSize:
    """About how much there is to learn from."""

    rows: int
    tokens: int


def look(data: Data) -> tuple[ResolvedData, DataSize, DataSize]:
    """Fetch the data files where they lie elsewhere, hash them and read their first rows.

    Returns:
        The files by digest, and the sizes of the training and the held-out rows, extrapolated from the first rows.

    Raises:
        UserError: a file is missing, empty, of an unknown kind, with a bad row, or with a single row.
    """
    train, train_size = _file(data.train, data.on_bad_row)
    if not data.validation:
        held = DataSize(
            round(train_size.rows * data.validation_share), round(train_size.tokens * data.validation_share)
        )
        rest = DataSize(train_size.rows - held.rows, train_size.tokens - held.tokens)
        return ResolvedData(train=train, validation=None), rest, held
    validation, validation_size = _file(data.validation, data.on_bad_row)
    return ResolvedData(train=train, validation=validation), train_size, validation_size


def _file(name: str, on_bad_row: str) -> tuple[DataFile, DataSize]:
    fetched = fetch(name) if "://" in name else None
    path = Path(fetched.path if fetched else name)
    good: list[Row] = []
    seen = 0
    for row in islice(read_rows(path), HEAD_ROWS):
        seen += 1
        if not isinstance(row, BadRow):
            good.append(row[1])
        elif on_bad_row == "stop":
            raise UserError(f"{row}; mend it, or set data.on_bad_row=skip")
    if not good:
        raise UserError(f"{path}: none of its first {seen} rows can be used")
    if seen == 1:
        raise UserError(f"{path}: has one row; at least two are needed, one to learn from and one to check with")
    size = path.stat().st_size
    sample = sum(len(row.content) for row in good)
    whole = seen < HEAD_ROWS
    rows = len(good) if whole else round(size / max(1, sample) * len(good) * 0.8)  # 0.8: JSON's own characters
    tokens = round(rows * (sample / len(good) / CHARACTERS_A_TOKEN + TEMPLATE_TOKENS))
    digest = fetched.sha256 if fetched else sha256_of(path)
    source = fetched.pinned if fetched else ""
    return DataFile(path=str(path), sha256=digest, bytes=size, source=source), DataSize(rows, tokens)
