"""Brings a backup back into a registry and a runs volume. Nothing is written before all of it is checked."""

import math
import shutil
from pathlib import Path
from typing import Any

from steps.backup.saved import OF_RUNS, OF_VERSIONS, OF_VOLUME, Backup, SavedModel, SavedRun, read_backup
from steps.common.registry import tracking, versions
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import sha256_of

UNFINISHED = "fineline.restoring"  # tag of a registered model that is being brought back
MOST_AT_ONCE = 1000  # metrics in one request
OF_ONE_REQUEST = 100  # parameters, or tags


def bring_back(folder: Path) -> Backup:
    """Bring back a backup's models with their versions' numbers, their runs, and the files of the runs volume.

    What is there already, and the same, stays. An attempt that was interrupted is begun again.

    Raises:
        UserError: the backup is not whole, or the registry or the volume has something else of the same name.
    """
    backup = read_backup(folder)
    store = tracking.client(tracking.default_uri())
    missing = [model for model in backup.models if not _is_there(store, model)]
    files = _missing_files(folder, backup)
    for source, target in files:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.partial")
        shutil.copyfile(source, partial)
        partial.replace(target)
    for model in missing:
        _restore_model(store, model, folder)
    return backup


def _missing_files(folder: Path, backup: Backup) -> list[tuple[Path, Path]]:
    """Return the files for the runs volume that are not there yet, each with its target."""
    found = []
    for name, sha256 in backup.files.items():
        place, _, rest = name.partition("/")
        if place != OF_VOLUME:
            continue
        target = volumes.runs() / rest
        if not target.exists():
            found.append((folder / name, target))
        elif sha256_of(target) != sha256:
            raise UserError(
                f"{target}: is there with other content than in the backup; restore into an empty runs volume"
            )
    return found


def _is_there(store: Any, model: SavedModel) -> bool:
    """Return whether the registry has the model as it was saved.

    Raises:
        UserError: it has another one of that name.
    """
    if not (found := store.search_registered_models(f"name = '{model.name}'")):
        return False
    if UNFINISHED in found[0].tags:
        return False
    numbers = {int(one.version): one.tags for one in store.search_model_versions(f"name = '{model.name}'")}
    same = (versions.ADAPTER_SHA256, versions.BASE_DIGEST)
    if set(numbers) == {one.number for one in model.versions} and all(
        numbers[one.number].get(tag) == one.tags.get(tag) for one in model.versions for tag in same
    ):
        return True
    raise UserError(f"{model.name}: the registry has other versions of it; restore into a registry without this model")


def _restore_model(store: Any, model: SavedModel, folder: Path) -> None:
    import mlflow

    if store.search_registered_models(f"name = '{model.name}'"):
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
        store.finalize_logged_model(logged.model_id, "READY")
        uri = f"models:/{logged.model_id}"
        while number < version.number - 1:  # numbers of versions that were deleted are given once
            number = int(mlflow.register_model(uri, model.name).version)
            store.delete_model_version(model.name, str(number))
        number = int(mlflow.register_model(uri, model.name, tags=version.tags).version)
        say(f"{model.name} version {number}")
    for alias, target in model.aliases.items():
        store.set_registered_model_alias(model.name, alias, str(target))
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
    store.set_terminated(made, run.status, run.ended)
    return str(made)
