"""What each release has stored, written by that release's own code. Only paths are changed, to those of a user `ada`."""

import json
import shutil
import tempfile
from pathlib import Path

from steps.common.registry import tracking

GOLDEN = Path(__file__).parents[1] / "golden"
RELEASES = sorted(GOLDEN.iterdir())


def golden(name: str, release: str = "0.1.0") -> Path:
    """Return the path of a stored file of a release."""
    return GOLDEN / release / name


def register_golden(
    name: str, release: Path = RELEASES[0], resolved: str = "", tags: dict[str, str] | None = None
) -> int:
    """Register a release's version as it registered it, and return the version's number.

    Args:
        name: of the model.
        release: folder of what the release stored.
        resolved: content of resolved.json in place of the release's.
        tags: of the version, in place of those that it had.
    """
    import mlflow

    uri = tracking.default_uri()
    store = tracking.client(uri)
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment_id=tracking.experiment(store, name))
    had = json.loads((release / "version_tags.json").read_text()) | (tags or {})
    model = mlflow.initialize_logged_model(name=name, tags=had, model_type="adapter")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(release / "version", folder, dirs_exist_ok=True)
        if resolved:
            (Path(folder) / "resolved.json").write_text(resolved)
        store.log_model_artifacts(model.model_id, folder)
    mlflow.finalize_logged_model(model.model_id, "READY")
    return int(mlflow.register_model(f"models:/{model.model_id}", name, tags=had).version)
