"""Brings a backup back into a registry and a runs volume. Nothing is written before all of it is checked."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steps.backup.api_database import SAVED_AS, restore_database
from steps.backup.saved import OF_API, OF_RUNS, OF_VERSIONS, OF_VOLUME, READY, Backup, SavedModel, SavedRun, read_backup
from steps.common.registry import tracking, versions
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.disk_errors import disk_errors
from steps.common.storage.files import exclusive_lock, sha256_of

LOCKED = ".restore"  # of the runs volume, while a backup is brought back
UNFINISHED = "fineline.restoring"  # tag of a registered model, and of its runs, that are being brought back
MOST_AT_ONCE = 1000  # metrics in one request
OF_ONE_REQUEST = 100  # parameters, or tags
GB = 1_000_000_000
UNDER_WAY, KILLED = ("RUNNING", "SCHEDULED"), "KILLED"  # MLflow's states of a run


def bring_back(folder: Path, *, staged: bool = False) -> Backup:
    """Bring back a backup's models with their versions' numbers, their runs, and the files of the runs volume.

    What is there already, and the same, stays. An attempt that was interrupted is begun again.

    Args:
        folder: of the backup.
        staged: whether the folder is on the runs volume and not needed any more: its files are moved, which takes no space.

    Raises:
        UserError: the backup is not whole, the registry or the volume has something else of the same name, or the disk is
            full.
        UnreachableError: the registry does not answer.
    """
    backup = read_backup(folder)
    store = tracking.client(tracking.default_uri())
    with exclusive_lock(volumes.runs() / LOCKED, lambda: say("waiting for another restore")):
        missing = check_target(store, backup)
        if not staged:
            check_space(sum((folder / name).stat().st_size for name in missing.files))
        with disk_errors(volumes.runs(), "what is back already stays"):
            for name, target in missing.files.items():
                target.parent.mkdir(parents=True, exist_ok=True)
                if staged:
                    (folder / name).replace(target)
                else:
                    _copy(folder / name, target)
            if (name := f"{OF_API}/{SAVED_AS}") in backup.files:
                restore_database(folder / name)
            for model in missing.models:
                _restore_model(store, model, folder)
    return backup


@dataclass(frozen=True)
class Missing:
    """What a registry and a runs volume do not have yet of a backup."""

    models: list[SavedModel]
    files: dict[str, Path]  # target on the runs volume by path in the backup


def check_target(store: Any, backup: Backup) -> Missing:
    """Return what is missing of a backup. Nothing is written.

    Raises:
        UserError: the registry or the volume has something else of the same name.
        UnreachableError: the registry does not answer.
    """
    models = [model for model in backup.models if not _is_there(store, model)]
    with disk_errors(volumes.runs(), "nothing was written"):
        return Missing(models, dict(_missing_files(backup)))


def check_space(size: int) -> None:
    """Refuse what the runs volume has no space for.

    Args:
        size: in bytes.

    Raises:
        UserError: it has less.
    """
    volumes.runs().mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(volumes.runs()).free) < size:
        raise UserError(
            f"{volumes.runs()}: {size / GB:.2f} GB are to be restored, and {free / GB:.2f} GB are free; free some space, for "
            f"example with 'fineline prune'; nothing was written"
        )


def _copy(source: Path, target: Path) -> None:
    partial = target.with_name(f"{target.name}.partial")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _missing_files(backup: Backup) -> Iterator[tuple[str, Path]]:
    """Yield the files for the runs volume that are not there yet, each with its target."""
    for name, sha256 in backup.files.items():
        place, _, rest = name.partition("/")
        if place != OF_VOLUME:
            continue
        target = volumes.runs() / rest
        if not target.exists():
            yield name, target
        elif sha256_of(target) != sha256:
            raise UserError(
                f"{target}: is there with other content than in the backup; restore into an empty runs volume"
            )


def _is_there(store: Any, model: SavedModel) -> bool:
    """Return whether the registry has the model as it was saved.

    Raises:
        UserError: it has another one of that name.
    """
    if not (found := store.search_registered_models(f"name = '{model.name}'")):
        return False
    if UNFINISHED in found[0].tags:
        return False
    listed = store.search_model_versions(f"name = '{model.name}'")
    numbers = {int(one.version): one.tags for one in listed if one.status == READY}
    same = (versions.ADAPTER_SHA256, versions.BASE_DIGEST)
    if set(numbers) == {one.number for one in model.versions} and all(
        numbers[one.number].get(tag) == one.tags.get(tag) for one in model.versions for tag in same
    ):
        return True
    raise _other_versions(model)


def _other_versions(model: SavedModel) -> UserError:
    return UserError(f"{model.name}: the registry has other versions of it; restore into a registry without this model")


def _restore_model(store: Any, model: SavedModel, folder: Path) -> None:
    import mlflow

    if found := store.search_registered_models(f"name = '{model.name}'"):
        if UNFINISHED not in found[0].tags:
            raise _other_versions(model)  # a run has registered it meanwhile
        store.delete_registered_model(model.name)
    store.create_registered_model(model.name, tags={**model.tags, UNFINISHED: "true"})
    mlflow.set_tracking_uri(store.tracking_uri)
    experiment = tracking.experiment(store, model.name)
    runs = {run.id: _restore_run(store, run, experiment, folder) for run in model.runs}
    number = 0
    for version in model.versions:
        logged = store.create_logged_model(
            experiment, model.name, source_run_id=runs.get(version.run), tags=version.tags, model_type="adapter"
        )
        store.log_model_artifacts(logged.model_id, str(folder / OF_VERSIONS / model.name / str(version.number)))
        store.finalize_logged_model(logged.model_id, READY)
        uri = f"models:/{logged.model_id}"
        while number < version.number - 1:  # numbers of versions that were deleted are given once
            number = int(mlflow.register_model(uri, model.name).version)
            store.delete_model_version(model.name, str(number))
        number = int(mlflow.register_model(uri, model.name, tags=version.tags).version)
        if number != version.number:
            raise UserError(f"{model.name}: somebody else registers versions of it; stop that, and restore it again")
        say(f"{model.name} version {number}")
    for alias, target in model.aliases.items():
        store.set_registered_model_alias(model.name, alias, str(target))
    for made in runs.values():
        store.delete_tag(made, UNFINISHED)
    store.delete_registered_model_tag(model.name, UNFINISHED)


def _restore_run(store: Any, run: SavedRun, experiment: str, folder: Path) -> str:
    """Create the run unless an interrupted attempt has, and return its id."""
    from mlflow.entities import Metric, Param, RunTag

    if had := store.search_runs([experiment], f"tags.`{UNFINISHED}` = '{run.id}'", max_results=1):
        store.delete_run(had[0].info.run_id)
    made = store.create_run(experiment, run.began, {UNFINISHED: run.id}, run.name).info.run_id
    parameters = [Param(key, value) for key, value in run.parameters.items()]
    tags = [RunTag(key, value) for key, value in run.tags.items()]
    points = [
        Metric(one.key, math.nan if one.value is None else one.value, one.timestamp, one.step) for one in run.metrics
    ]
    for start in range(0, len(parameters), OF_ONE_REQUEST):
        store.log_batch(made, params=parameters[start : start + OF_ONE_REQUEST])
    for start in range(0, len(tags), OF_ONE_REQUEST):
        store.log_batch(made, tags=tags[start : start + OF_ONE_REQUEST])
    for start in range(0, len(points), MOST_AT_ONCE):
        store.log_batch(made, metrics=points[start : start + MOST_AT_ONCE])
    if (files := folder / OF_RUNS / run.id).is_dir():
        store.log_artifacts(made, str(files))
    # What was at work while the backup was made is not at work here.
    last = max((point.timestamp for point in run.metrics), default=run.began)
    store.set_terminated(made, KILLED if run.status in UNDER_WAY else run.status, run.ended or last)
    return str(made)
