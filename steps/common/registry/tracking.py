"""The MLflow client, quiet and without telemetry, and the experiment of a model."""

import logging
import os
from typing import Any

from steps.common.storage import volumes


def default_uri() -> str:
    """Return where versions are kept when the recipe does not say: MLFLOW_TRACKING_URI, else SQLite beside the runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{volumes.runs() / 'mlflow.db'}"


def client(uri: str) -> Any:
    """Return an `MlflowClient` of the store at `uri`."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_DISABLE_AGENT_NUDGE", "true")
    if uri.startswith("sqlite:///"):
        volumes.runs().mkdir(parents=True, exist_ok=True)
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow.MlflowClient(uri)


def experiment(client: Any, name: str) -> str:
    """Return the id of the experiment of the model `name`, made when it is not there.

    MLflow would put a SQLite store's artifacts into `./mlruns` of whichever folder the process stands in; they belong
    beside the runs.
    """
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    local = client.tracking_uri.startswith("sqlite:")
    return str(client.create_experiment(name, (volumes.runs() / "artifacts" / name).as_uri() if local else None))
