"""What a backup consists of: a folder with `backup.json`, and the files whose hashes that names."""

from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict

from steps.common.runtime.errors import UserError
from steps.common.storage.files import sha256_of
from steps.common.storage.record import Record, first_fault

FILE = "backup.json"
OF_VERSIONS, OF_RUNS, OF_VOLUME = "versions", "tracked", "volume"  # folders of a backup
# Of the runs volume, what cannot be made again: data and held-out rows, runs with their costs, evaluations.
KEPT = ("data", "runs", "evaluations")


class SavedPart(BaseModel):
    """A part of a backup; keys that a later release adds are ignored."""

    model_config = ConfigDict(frozen=True)


class SavedMetric(SavedPart):
    """One value of a curve."""

    key: str
    value: float | None  # None: NaN
    timestamp: int  # milliseconds since 1970
    step: int


class SavedRun(SavedPart):
    """A run that MLflow tracks."""

    id: str
    name: str
    status: str
    began: int  # milliseconds since 1970
    ended: int | None
    tags: dict[str, str]
    parameters: dict[str, str]
    metrics: list[SavedMetric]


class SavedVersion(SavedPart):
    """A registered version."""

    number: int
    run: str  # id; empty: none
    tags: dict[str, str]


class SavedModel(SavedPart):
    """A registered model with its versions, in the order of their numbers, and the runs of its experiment."""

    name: str
    tags: dict[str, str]
    aliases: dict[str, int]
    versions: list[SavedVersion]
    runs: list[SavedRun]


class Backup(Record):
    """The content of a backup."""

    models: list[SavedModel]
    files: dict[str, str]  # SHA-256 by path in the backup


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILE)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def read_backup(folder: Path) -> Backup:
    """Return the content of a backup after checking that it is whole.

    Raises:
        UserError: it is no backup, a later release wrote it, or a file is missing or was changed.
    """
    file = folder / FILE
    try:
        backup = Backup.read(file.read_text(), file)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read: {error.strerror}; give the folder that 'fineline backup create' wrote"
        ) from None
    except ValueError as error:
        raise UserError(f"{file}: not a backup: {first_fault(error)}") from None
    for name, sha256 in backup.files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{file}: names {name!r}, which lies outside the backup; use another backup")
        if not (folder / path).is_file() or sha256_of(folder / path) != sha256:
            raise UserError(f"{folder / path}: missing or changed since the backup was made; use another backup")
    return backup
