"""The MLflow client, without telemetry and with few log messages, and the experiment of a model."""

import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from steps.common.registry.allowed_registries import check_allowed, withhold_credentials
from steps.common.registry.redacted_store import RedactedStore
from steps.common.registry.registry_errors import deleted_experiment, registry_errors
from steps.common.runtime.progress import say
from steps.common.runtime.redaction import without_credentials
from steps.common.storage import volumes


@dataclass(frozen=True)
class Patience:
    """How long to ask an MLflow that does not answer: the settings of its client."""

    retries: int
    seconds: int  # for one answer
    backoff: int  # pauses of 0, 2, 4, … times this many seconds


PATIENT = Patience(retries=7, seconds=120, backoff=2)  # the client's own: for what would have to be done again
QUICK = Patience(retries=2, seconds=8, backoff=1)  # before anything is done, and a person may be waiting
BRIEF = Patience(retries=1, seconds=5, backoff=1)  # for what only tells


class RegistryClient:
    """An `MlflowClient` whose errors are ours, see `registry_errors`, and whose calls are redacted."""

    def __init__(self, uri: str, patience: Patience | None) -> None:
        """Connect to the store at `uri`; None: with the patience that this process has."""
        import mlflow

        self.tracking_uri = uri
        self.patience = patience
        with registry_errors(uri), patient(patience):
            self._client = RedactedStore(mlflow.MlflowClient(uri))

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        @functools.wraps(call)
        def asked(*arguments: Any, **named: Any) -> Any:
            with registry_errors(self.tracking_uri), patient(self.patience):
                return call(*arguments, **named)

        return asked


def default_uri() -> str:
    """Return the registry for recipes that name none: MLFLOW_TRACKING_URI, else a SQLite file beside the runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{volumes.runs() / 'mlflow.db'}"


def kept_uri(uri: str) -> str:
    """Return the address of a registry as it is kept and shown: without a user and a password."""
    return without_credentials(uri)


def is_own(uri: str) -> bool:
    """Return whether a kept address is that of the registry for recipes that name none."""
    return uri == kept_uri(default_uri())


def uri_to_connect(uri: str) -> str:
    """Return the address to connect to for a kept one: with the user and password that MLFLOW_TRACKING_URI has."""
    return default_uri() if is_own(uri) else uri


def client(uri: str, patience: Patience | None = PATIENT) -> RegistryClient:
    """Return the client of the store at `uri`, with the methods of an `MlflowClient`. What it sends is redacted.

    Args:
        uri: the address, which may be a kept one.
        patience: how long to ask; None: with the patience that this process has.

    Raises:
        UserError: the address is not a registry's, or in a cluster the installation does not allow this registry.
        UnreachableError: the store does not answer.
    """
    uri, own = uri_to_connect(uri), default_uri()
    check_allowed(uri, own)
    withhold_credentials(uri, own)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_DISABLE_AGENT_NUDGE", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    if uri.startswith("sqlite:///"):
        volumes.runs().mkdir(parents=True, exist_ok=True)
    import mlflow  # noqa: F401 - before the loggers are silenced, which it creates

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return RegistryClient(uri, patience)


def set_patience(patience: Patience) -> list[str]:
    """Have MLflow's client ask so long from now on, and return the settings that were made.

    The client reads them at each request. Those that the user has made stay.
    """
    settings = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": patience.retries,
        "MLFLOW_HTTP_REQUEST_TIMEOUT": patience.seconds,
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": patience.backoff,
    }
    own = {name: str(value) for name, value in settings.items() if name not in os.environ}
    os.environ.update(own)
    return list(own)


@contextmanager
def patient(patience: Patience | None) -> Iterator[None]:
    """Have MLflow's client ask so long here; None: change nothing.

    Not beside another thread: a change of the environment may crash one that reads it.
    """
    own = set_patience(patience) if patience else []
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Do what only tells people something: if it fails, say so and go on, whatever the reason.

    Args:
        what: what is told, for the message.
    """
    try:
        yield
    except Exception as error:
        say(f"could not record {what} in MLflow: {' '.join(str(error).split())[:300]}")


def experiment(client: Any, name: str) -> str:
    """Return the id of the model's experiment, and create the experiment if it does not exist.

    For a SQLite store MLflow would put artifacts into `./mlruns` in the current folder; they belong beside the runs.

    Raises:
        UserError: the experiment was deleted in MLflow.
    """
    existing = client.get_experiment_by_name(name)
    if existing and existing.lifecycle_stage == "deleted":
        raise deleted_experiment(client.tracking_uri, existing.experiment_id, name)
    if existing:
        return str(existing.experiment_id)
    local = client.tracking_uri.startswith("sqlite:")
    return str(client.create_experiment(name, (volumes.runs() / "artifacts" / name).as_uri() if local else None))
