"""The MLflow client, without telemetry and with few log messages, and the experiment of a model."""

import logging
import os
from typing import Any

from steps.common.registry.allowed_registries import check_allowed, withhold_credentials
from steps.common.registry.redacted_store import RedactedStore
from steps.common.runtime.redaction import without_credentials
from steps.common.storage import volumes


def default_uri() -> str:
    """Return the registry for recipes that name none: MLFLOW_TRACKING_URI, else a SQLite file beside the runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{volumes.runs() / 'mlflow.db'}"


def kept_uri(uri: str) -> str:
    """Return the address of a registry as it is kept and shown: without a user and a password."""
    return without_credentials(uri)


def uri_to_connect(uri: str) -> str:
    """Return the address to connect to for a kept one: with the user and password that MLFLOW_TRACKING_URI has."""
    own = default_uri()
    return own if uri == kept_uri(own) else uri


def client(uri: str) -> Any:
    """Return an `MlflowClient` of the store at `uri`, which may be a kept one. What it sends is redacted.

    Raises:
        UserError: in a cluster, the installation does not allow this registry.
    """
    uri, own = uri_to_connect(uri), default_uri()
    check_allowed(uri, own)
    withhold_credentials(uri, own)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_DISABLE_AGENT_NUDGE", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if uri.startswith("sqlite:///"):
        volumes.runs().mkdir(parents=True, exist_ok=True)
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return RedactedStore(mlflow.MlflowClient(uri))


def experiment(client: Any, name: str) -> str:
    """Return the id of the model's experiment, and create the experiment if it does not exist.

    For a SQLite store MLflow would put artifacts into `./mlruns` in the current folder; they belong beside the runs.
    """
    existing = client.get_experiment_by_name(name)
    if existing:
        return str(existing.experiment_id)
    local = client.tracking_uri.startswith("sqlite:")
    return str(client.create_experiment(name, (volumes.runs() / "artifacts" / name).as_uri() if local else None))
