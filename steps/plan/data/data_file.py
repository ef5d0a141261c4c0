"""Finds the recipe's data files, hashes them and reads their first rows: most of what would stop `prepare` stops here."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from recipes.data import Data
from steps.common.handover.resolved import DataFile, DataSource, ResolvedData, is_mixture
from steps.common.rows.files.file_kind import check_known
from steps.common.rows.files.row_count import record_count
from steps.common.rows.read_rows import parse, read_raw
from steps.common.rows.row import BadRow, Row, RowPlace
from steps.common.rows.row_kinds import check_kind
from steps.common.runtime.errors import UserError
from steps.common.runtime.redaction import without_credentials
from steps.plan.data.file_names import MOST_FILES
from steps.plan.data.local_copy import LocalCopy, fetch, fetch_all
from steps.plan.data.local_files import LocalFiles

HEAD_ROWS = 2000  # of a source that are read
HEAD_ROWS_OF_FILE = 50  # of each of its files at least
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

    def times(self, factor: float) -> "DataSize":
        """Return the size of a portion or a multiple of the rows."""
        return DataSize(round(self.rows * factor), round(self.tokens * factor))


@dataclass(frozen=True)
class InspectedData:
    """The data files by digest, and the sizes of the training and held-out rows, extrapolated from the first rows."""

    files: ResolvedData
    train: DataSize
    held_out: DataSize


@dataclass(frozen=True)
class Inspected:
    """A source, and the size of its rows."""

    source: DataSource
    size: DataSize


def inspect_data(
    data: Data, objective: str, readable: Callable[[str], bool] = lambda _: True, local: LocalFiles | None = None
) -> InspectedData | None:
    """Download the data files if they are remote, hash them and read their first rows.

    Args:
        data: the recipe's part.
        objective: the recipe's objective, which determines the kind of rows that it needs.
        readable: tells whether this machine can read a place; the others are left out.
        local: what is known already of this machine's files.

    Returns:
        None if a place was left out.

    Raises:
        UserError: a file is missing, empty, of an unknown kind, belongs to two sources, or has a bad row or a row of the
            wrong kind for the objective; or there is a single row.
    """
    local = local or LocalFiles()
    wanted = [(one.places, 1.0 if one.weight is None else one.weight, one.share) for one in data.sources]
    train = [
        _inspect(local, places, data.on_bad_row, objective, weight, share)
        for places, weight, share in wanted
        if all(map(readable, places))
    ]
    held_places = data.held_out_places
    held = [_inspect(local, [place], data.on_bad_row, objective) for place in held_places if readable(place)]
    _check_rows("data.train", train, all_read=len(train) == len(wanted))
    _check_rows("data.validation", held, all_read=len(held) == len(held_places))
    if (count := sum(len(one.source.files) for one in [*train, *held])) > MOST_FILES:
        raise UserError(f"data: has {count} files of rows, and a run may have {MOST_FILES}; join some, e.g. as Parquet")
    if len(train) < len(wanted) or len(held) < len(held_places):
        return None
    files = ResolvedData(train=[one.source for one in train], validation=[one.source for one in held])
    if held:
        return InspectedData(files, mixed(train), mixed(held))
    share = data.validation_share
    rows, tokens = (sum(getattr(one.size, part) for one in train) for part in ("rows", "tokens"))
    held_out = DataSize(round(rows * share), round(tokens * share))
    if not is_mixture(files.train):
        return InspectedData(files, DataSize(rows - held_out.rows, tokens - held_out.tokens), held_out)
    return InspectedData(files, mixed(train).times(1 - share), held_out)


def mixed(sources: list[Inspected]) -> DataSize:
    """Return the size of a mixture: with shares, of the largest one in which no row repeats."""
    parts = [(one.size, one.source.weight, one.source.share) for one in sources]
    largest = min((size.rows / share for size, _, share in parts if share), default=0.0)
    sizes = [size.times(largest * share / size.rows if share else weight) for size, weight, share in parts]
    return DataSize(sum(size.rows for size in sizes), sum(size.tokens for size in sizes))


def _check_rows(key: str, sources: list[Inspected], *, all_read: bool) -> None:
    files = [file for one in sources for file in one.source.files]
    # An address is kept without its query, so that it alone does not tell two files apart.
    places = [(file.source, file.path) for file in files]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise UserError(f"{key}: {twice[0] or twice[1]} belongs to two sources; name it in one of them")
    if sources and all_read and sum(one.size.rows for one in sources) < 2:
        where = files[0].source or files[0].path
        raise UserError(f"{where}: has one row; at least two are needed, one to train on and one to hold out")


def _inspect(
    local: LocalFiles,
    places: list[str],
    on_bad_row: str,
    objective: str,
    weight: float = 1.0,
    share: float | None = None,
) -> Inspected:
    found = [one for place in places for one in find(place, local)]
    each = max(HEAD_ROWS_OF_FILE, HEAD_ROWS // len(found))
    sizes = [_size(path, each, on_bad_row, objective) for path, _ in found]
    name = ", ".join(map(without_credentials, places))
    if not any(size.rows for size, _ in sizes):
        seen = sum(seen for _, seen in sizes)
        raise UserError(
            f"{name}: {f'none of its first {seen} rows can be used' if seen else 'has no rows; it needs at least two'}"
        )
    source = DataSource(source=name, files=[pin_file(*one, local) for one in found], weight=weight, share=share)
    return Inspected(source, DataSize(sum(size.rows for size, _ in sizes), sum(size.tokens for size, _ in sizes)))


def _size(path: Path, most: int, on_bad_row: str, objective: str) -> tuple[DataSize, int]:
    """Read the first rows of a file; return an estimate of the size of all that can be used, and how many were read."""
    head = list(islice(read_raw(path), most))
    good: list[Row] = []
    for record in head:
        row = parse(RowPlace(str(path), record.line), record)
        if not isinstance(row, BadRow):
            check_kind(*row, objective)
            good.append(row[1])
        elif on_bad_row == "stop":
            raise UserError(f"{row}; fix the row, or set data.on_bad_row=skip")
    if not good:
        return DataSize(0, 0), len(head)
    read = [reading for row in good for reading in row.readings]
    characters = sum(len(reading.content) for reading in read)
    tokens = characters / CHARACTERS_PER_TOKEN + TEMPLATE_TOKENS * len(read)
    times = 1.0 if len(head) < most else record_count(path, head) / len(head)
    return DataSize(round(times * len(good)), round(times * tokens)), len(head)


def find(place: str, local: LocalFiles) -> list[tuple[Path, LocalCopy | None]]:
    """Return the files of rows at a place, each with the record of its download if it is remote.

    Args:
        place: path or URL of a file, a folder or a pattern; on the hub, of a data set too.
        local: what is known already of this machine's files.

    Raises:
        UserError: there is no such file, it is of an unknown kind, or access is denied.
        UnreachableError: the source did not answer, even when asked again.
    """
    if "://" in place:
        return [(Path(copy.path), copy) for copy in fetch_all(place)]
    return [(path, None) for path in local.at(place)]


def locate(name: str, check_name: Callable[[str], None] = check_known) -> tuple[Path, LocalCopy | None]:
    """Return the path of a file on this machine, and the record of its download if the file is remote.

    Args:
        name: path or URL of one file.
        check_name: refuses the name of a remote file of another kind.

    Raises:
        UserError: there is no such file, or access is denied.
        UnreachableError: the source did not answer, even when asked again.
    """
    fetched = fetch(name, check_name) if "://" in name else None
    return Path(fetched.path if fetched else name), fetched


def pin_file(path: Path, fetched: LocalCopy | None, local: LocalFiles | None = None) -> DataFile:
    """Return a file with its digest, which a download has already computed."""
    digest = fetched.sha256 if fetched else (local or LocalFiles()).sha256(path)
    source = fetched.pinned if fetched else ""
    return DataFile(path=str(path), sha256=digest, bytes=path.stat().st_size, source=source)
