"""What a backup consists of: a folder with `backup.json`, and the files whose hashes that names."""

from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict

from steps.common.runtime.errors import UserError
from steps.common.storage.files import sha256_of
from steps.common.storage.record import Record, first_fault

FILE = "backup.json"
OF_VERSIONS, OF_RUNS, OF_VOLUME, OF_API = "versions", "tracked", "volume", "api"  # folders of a backup
# Of the runs volume, what cannot be made again: data and held-out rows, runs with their costs, evaluations.
KEPT = ("data", "runs", "evaluations")
READY = "READY"  # MLflow's state of a version that is whole: the only ones that a backup has


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

    def in_words(self) -> str:
        """Return how much it has, as one line."""
        versions = sum(len(model.versions) for model in self.models)
        return f"models: {len(self.models)}, versions: {versions}, files: {len(self.files)}"


def read_list(folder: Path) -> Backup:
    """Return what a backup says that it has, without reading its other files.

    Raises:
        UserError: it is no backup, a later release wrote it, or it names what lies outside of it.
    """
    file = folder / FILE
    try:
        backup = Backup.read(file.read_text(encoding="utf-8"), file)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read: {error.strerror}; give the folder that 'fineline backup create' wrote"
        ) from None
    except ValueError as error:
        raise UserError(f"{file}: not a backup: {first_fault(error)}") from None
    folders = [*(model.name for model in backup.models), *(run.id for model in backup.models for run in model.runs)]
    outside = [name for name in folders if name in ("", ".", "..") or "/" in name]
    outside += [name for name in backup.files if not _lies_inside(name)]
    if outside:
        raise UserError(f"{file}: names {outside[0]!r}, which lies outside the backup; use another backup")
    return backup


def _lies_inside(name: str) -> bool:
    path = PurePosixPath(name)
    first, *rest = path.parts or ("",)
    # The parts of volume//runs/x are those of volume/runs/x, and its text after the first slash is an absolute path.
    if ".." in rest or not rest or name != path.as_posix():
        return False
    return first in (OF_VERSIONS, OF_RUNS, OF_API) or (first == OF_VOLUME and len(rest) > 1 and rest[0] in KEPT)


def read_backup(folder: Path) -> Backup:
    """Return the content of a backup after checking that it is whole.

    Raises:
        UserError: it is no backup, a later release wrote it, or a file is missing or was changed.
    """
    backup = read_list(folder)
    for name, sha256 in backup.files.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != sha256:
            raise UserError(f"{folder / name}: missing or changed since the backup was made; use another backup")
    return backup


def drop_unlisted(folder: Path, backup: Backup) -> None:
    """Delete the files of a backup's folder that its list does not name: they were gone before all of them was saved."""
    listed = {folder / name for name in (FILE, *backup.files)}
    for path in [one for one in folder.rglob("*") if one.is_file() and one not in listed]:
        path.unlink()
