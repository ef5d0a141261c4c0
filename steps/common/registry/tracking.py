"""The MLflow client, without telemetry and with few log messages, and the experiment of a model."""

import logging
import os
from typing import Any

from steps.common.storage import volumes


def default_uri() -> str:
    """Return the registry for recipes that name none: MLFLOW_TRACKING_URI, else a SQLite file beside the runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{volumes.runs() / 'mlflow.db'}"


def client(uri: str) -> Any:
    """Return an `MlflowClient` of the store at `uri`."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_DISABLE_AGENT_NUDGE", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if uri.startswith("sqlite:///"):
        volumes.runs().mkdir(parents=True, exist_ok=True)
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow.MlflowClient(uri)


def experiment(client: Any, name: str) -> str:
    """Return the id of the model's experiment, and create the experiment if it does not exist.

    For a SQLite store MLflow would put artifacts into `./mlruns` in the current folder; they belong beside the runs.
    """
    existing = client.get_experiment_by_name(name)
    if existing:
        return str(existing.experiment_id)
    local = client.tracking_uri.startswith("sqlite:")
    return str(client.create_experiment(name, (volumes.runs() / "artifacts" / name).as_uri() if local else None))
