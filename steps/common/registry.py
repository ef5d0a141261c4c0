"""MLflow's model registry, as far as more than one step needs it. Loads no torch."""

from pathlib import Path
from typing import Any

CHAMPION = "champion"
CANDIDATE = "candidate"
ADAPTER_FOLDER = "peft"


def version_at(store: Any, name: str, alias: str) -> Any | None:
    """Return the version that the alias points at, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return store.get_model_version_by_alias(name, alias)
    except MlflowException:
        return None


def version_of(store: Any, name: str, adapter_sha256: str, base_digest: str) -> Any | None:
    """Return the version that holds this adapter on this base, or None."""
    from mlflow.exceptions import MlflowException

    try:
        versions = store.search_model_versions(f"name = '{name}'")
    except MlflowException:
        return None
    same = {"fineline.adapter_sha256": adapter_sha256, "fineline.base_digest": base_digest}
    return next((v for v in versions if same.items() <= v.tags.items()), None)


def download_adapter(store: Any, version: Any, folder: Path) -> Path:
    """Copy a version's adapter below `folder` and return its folder."""
    from mlflow.artifacts import download_artifacts

    uri = store.get_model_version_download_uri(version.name, str(version.version))
    return Path(download_artifacts(f"{uri}/{ADAPTER_FOLDER}", dst_path=str(folder), tracking_uri=store.tracking_uri))
