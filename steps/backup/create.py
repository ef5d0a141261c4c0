"""Writes a backup: through MLflow's client, whatever its database is."""

import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

from steps.backup.saved import (
    FILE,
    KEPT,
    OF_RUNS,
    OF_VERSIONS,
    OF_VOLUME,
    Backup,
    SavedMetric,
    SavedModel,
    SavedRun,
    SavedVersion,
    hashes,
)
from steps.common.registry import tracking
from steps.common.runtime.errors import UserError
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import build_folder, write_text


def create_backup(folder: Path) -> Backup:
    """Write the registry, and what the runs volume has that cannot be made again, into a new folder.

    Raises:
        UserError: the folder exists.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists; name a new folder")
    store = tracking.client(tracking.default_uri())
    with build_folder(folder) as partial:
        models = [_model(store, model, partial) for model in _all(store.search_registered_models)]
        for name in KEPT:
            if (volumes.runs() / name).is_dir():
                left_out = shutil.ignore_patterns("*.lock", "*.partial", ".*")
                shutil.copytree(volumes.runs() / name, partial / OF_VOLUME / name, ignore=left_out)
        backup = Backup(models=models, files=hashes(partial))
        write_text(partial / FILE, backup.model_dump_json(indent=2) + "\n")
    return backup


def _all(search: Any, *arguments: Any, **named: Any) -> list[Any]:
    found, token = [], None
    while True:
        page = search(*arguments, page_token=token, **named)
        found += list(page)
        token = page.token
        if not token:
            return found


def _model(store: Any, model: Any, folder: Path) -> SavedModel:
    found = _all(store.search_model_versions, f"name = '{model.name}'")
    versions = []
    for version in sorted(found, key=lambda one: int(one.version)):
        say(f"{model.name} version {version.version}")
        uri = store.get_model_version_download_uri(model.name, str(version.version))
        with tempfile.TemporaryDirectory(dir=folder) as download:
            found_in = _download(store, uri, Path(download))  # the folder or, depending on the store, one in it
            shutil.copytree(found_in, folder / OF_VERSIONS / model.name / str(version.version))
        versions.append(SavedVersion(number=int(version.version), run=version.run_id or "", tags=dict(version.tags)))
    experiment = store.get_experiment_by_name(model.name)
    runs = _all(store.search_runs, [experiment.experiment_id]) if experiment else []
    return SavedModel(
        name=model.name,
        tags=dict(model.tags),
        aliases={alias: int(number) for alias, number in store.get_registered_model(model.name).aliases.items()},
        versions=versions,
        runs=[_run(store, run, folder) for run in runs],
    )


def _run(store: Any, run: Any, folder: Path) -> SavedRun:
    for one in store.list_artifacts(run.info.run_id):
        _download(store, f"runs:/{run.info.run_id}/{one.path}", folder / OF_RUNS / run.info.run_id)
    points = [point for key in run.data.metrics for point in store.get_metric_history(run.info.run_id, key)]
    return SavedRun(
        id=run.info.run_id,
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


def _download(store: Any, uri: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    folder.mkdir(parents=True, exist_ok=True)
    return Path(download_artifacts(uri, dst_path=str(folder), tracking_uri=store.tracking_uri))
