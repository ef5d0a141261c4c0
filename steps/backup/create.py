"""Writes a backup: through MLflow's client, whatever its database is, and beside runs that are at work.

What the registry and the runs volume have is listed at the beginning. What appears later is left out, and so is what has gone
when its turn comes.
"""

import errno
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from steps.backup.api_database import SAVED_AS, saved_database
from steps.backup.backup_target import BackupTarget, FolderTarget
from steps.backup.saved import (
    FILE,
    KEPT,
    OF_API,
    OF_RUNS,
    OF_VERSIONS,
    OF_VOLUME,
    READY,
    Backup,
    SavedMetric,
    SavedModel,
    SavedRun,
    SavedVersion,
    drop_unlisted,
)
from steps.backup.steady_read import read_steadily
from steps.common.registry import tracking
from steps.common.registry.registry_errors import NotInRegistryError, registry_errors
from steps.common.registry.tracking import patient
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.runtime.redaction import redact
from steps.common.storage import volumes
from steps.common.storage.disk_errors import disk_errors
from steps.common.storage.files import build_folder

LEFT_OUT = ("*.lock", "*.partial", ".*")  # what is being written, and locks


@dataclass(frozen=True)
class _Listed:
    """A registered model at the beginning."""

    name: str
    tags: dict[str, str]
    aliases: dict[str, int]
    versions: list[Any]
    runs: list[Any]


@dataclass(frozen=True)
class _Saving:
    """A backup that is being written."""

    store: Any
    target: BackupTarget
    staging: Path  # an empty folder, for the files of one version or run at a time
    files: dict[str, str] = field(default_factory=dict)  # SHA-256 by path in the backup

    def add(self, name: str, path: Path) -> None:
        self.files[name] = read_steadily(path, partial(self.target.add, name))


def create_backup(folder: Path) -> Backup:
    """Write the registry, and what the runs volume has that cannot be made again, into a new folder.

    Raises:
        UserError: the folder exists, the disk is full, or a file cannot be read.
        UnreachableError: the registry does not answer.
    """
    check_new(folder)
    with (
        disk_errors(folder, "nothing of it is kept"),
        build_folder(folder, private=True) as unfinished,
        tempfile.TemporaryDirectory(dir=unfinished, prefix=".staging-") as staging,
    ):
        backup = save(FolderTarget(unfinished), Path(staging))
        drop_unlisted(unfinished, backup)
        return backup


def check_new(folder: Path) -> None:
    """Refuse a folder that exists.

    Raises:
        UserError: it does.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists; name a new folder")


def save(target: BackupTarget, staging: Path) -> Backup:
    """Write a backup, its list of contents last.

    Args:
        target: where to.
        staging: an empty folder with space for the files of one version, or of one run.

    Raises:
        UserError: a file cannot be read, or changes all the time.
        UnreachableError: the registry does not answer.
    """
    store = tracking.client(tracking.default_uri())
    saving = _Saving(store, target, staging)
    # In this order: whatever a later list refers to by an earlier one's content is there.
    listed = [_listed(store, model) for model in _all(store.search_registered_models)]
    files = list(_volume_files())
    models = [_save_model(saving, model) for model in listed]
    if database := saved_database(staging):
        saving.add(f"{OF_API}/{SAVED_AS}", database)
    for name, path in files:
        try:
            saving.add(f"{OF_VOLUME}/{name}", path)
        except FileNotFoundError:
            say(f"{name}: has been deleted meanwhile, and is left out")
    backup = Backup(models=models, files=saving.files)
    target.add_text(FILE, redact(backup.model_dump_json(indent=2) + "\n"))
    return backup


def _all(search: Any, *arguments: Any, **named: Any) -> list[Any]:
    found, token = [], None
    while True:
        page = search(*arguments, page_token=token, **named)
        found += list(page)
        token = page.token
        if not token:
            return found


def _listed(store: Any, model: Any) -> _Listed:
    aliases = store.get_registered_model(model.name).aliases  # first: they point to versions that the list then has
    found = _all(store.search_model_versions, f"name = '{model.name}'")
    experiment = store.get_experiment_by_name(model.name)
    return _Listed(
        name=model.name,
        tags=dict(model.tags),
        aliases={alias: int(number) for alias, number in aliases.items()},
        versions=sorted((one for one in found if one.status == READY), key=lambda one: int(one.version)),
        runs=_all(store.search_runs, [experiment.experiment_id]) if experiment else [],
    )


def _volume_files() -> Iterator[tuple[str, Path]]:
    """Yield the files of the runs volume that are kept, each with its path there."""
    root = volumes.runs()
    for kept in KEPT:
        for folder, names, files in os.walk(root / kept):
            names[:] = sorted(name for name in names if not _is_left_out(name))
            paths = [Path(folder) / name for name in sorted(files) if not _is_left_out(name)]
            yield from ((path.relative_to(root).as_posix(), path) for path in paths if not path.is_symlink())


def _is_left_out(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in LEFT_OUT)


def _save_model(saving: _Saving, model: _Listed) -> SavedModel:
    versions = [one for version in model.versions if (one := _save_version(saving, model.name, version))]
    runs = [kept for run in model.runs if (kept := _save_run(saving, run))]
    numbers = {version.number for version in versions}
    return SavedModel(
        name=model.name,
        tags=model.tags,
        aliases={alias: number for alias, number in model.aliases.items() if number in numbers},
        versions=versions,
        runs=runs,
    )


def _save_version(saving: _Saving, name: str, version: Any) -> SavedVersion | None:
    """Save a version; None: it has been deleted meanwhile."""
    what = f"{name} version {version.version}"
    say(what)
    with tempfile.TemporaryDirectory(dir=saving.staging) as download:
        try:
            uri = saving.store.get_model_version_download_uri(name, str(version.version))
            found_in = _download(saving.store, uri, Path(download))  # the folder or, depending on the store, one in it
        except NotInRegistryError:
            say(f"{what}: has been deleted meanwhile, and is left out")
            return None
        _save_folder(saving, found_in, f"{OF_VERSIONS}/{name}/{version.version}")
    return SavedVersion(number=int(version.version), run=version.run_id or "", tags=dict(version.tags))


def _save_run(saving: _Saving, run: Any) -> SavedRun | None:
    """Save a run as far as it has come; None: it has been deleted meanwhile."""
    number, store = run.info.run_id, saving.store
    with tempfile.TemporaryDirectory(dir=saving.staging) as download:
        try:
            points = [point for key in run.data.metrics for point in store.get_metric_history(number, key)]
            for one in store.list_artifacts(number):
                _download(store, f"runs:/{number}/{one.path}", Path(download))
        except NotInRegistryError:
            say(f"run {run.info.run_name}: has been deleted meanwhile, and is left out")
            return None
        _save_folder(saving, Path(download), f"{OF_RUNS}/{number}")
    return SavedRun(
        id=number,
        name=run.info.run_name,
        status=run.info.status,
        began=run.info.start_time,
        ended=run.info.end_time,
        tags=dict(run.data.tags),
        parameters=dict(run.data.params),
        metrics=[
            SavedMetric(
                key=point.key,
                value=point.value if math.isfinite(point.value) else None,
                timestamp=point.timestamp,
                step=point.step,
            )
            for point in points
        ],
    )


def _save_folder(saving: _Saving, folder: Path, name: str) -> None:
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        saving.add(f"{name}/{path.relative_to(folder).as_posix()}", path)


def _download(store: Any, uri: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with registry_errors(store.tracking_uri), patient(store.patience):
        try:
            return Path(download_artifacts(uri, dst_path=str(folder), tracking_uri=store.tracking_uri))
        except MlflowException as error:
            if os.strerror(errno.ENOSPC) in str(error):  # which would be taken for a registry that does not answer
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from None
            raise
