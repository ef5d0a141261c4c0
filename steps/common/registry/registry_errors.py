"""Tells what MLflow's client raises apart: what does not exist, what the user can mend, and an MLflow that does not answer."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from steps.common.runtime.errors import UnreachableError, UserError
from steps.common.runtime.redaction import without_credentials

ABSENT = "RESOURCE_DOES_NOT_EXIST"
ABSENT_ALIAS = re.compile(r"Registered model alias .* not found")  # which MLflow calls INVALID_PARAMETER_VALUE
DELETED_EXPERIMENT = re.compile(r"experiment (?P<id>\S+) must be in the 'active' state")
CAUSE = re.compile(r"\(Caused by (?P<cause>.*)\)", re.DOTALL)
QUOTED = re.compile(r"""^\w+\((?:<[^>]*>, )?["'](?P<text>.*)["']\)$""", re.DOTALL)
UNKNOWN_HOST = ("Name or service not known", "No address associated with hostname")
LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (in a cluster, in the Secret NAME-mlflow)"
LATER = 429


class NotInRegistryError(UserError):
    """MLflow has no such model, version, alias or run."""


@contextmanager
def registry_errors(uri: str) -> Iterator[None]:
    """Raise what MLflow's client raises as one line.

    Args:
        uri: the registry's address; its user name and password, if it has them, are not shown.

    Raises:
        NotInRegistryError: what is asked for does not exist.
        UserError: the login is refused, the address is not MLflow's, or the request is refused for another reason.
        UnreachableError: MLflow did not answer, or failed, even when asked again.
    """
    import requests
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise _judge(uri, error.error_code, error.get_http_status_code(), str(error)) from None
    except requests.HTTPError as error:  # of artifacts, which the client fetches over plain HTTP
        status = error.response.status_code if error.response is not None else 500
        raise _judge(uri, "", status, str(error)) from None
    except requests.RequestException as error:
        raise _judge(uri, "", 500, str(error)) from None
    except Exception as error:
        if not _is_operational_error(error):
            raise
        raise _judge(uri, "", 500, str(error)) from None


def _is_operational_error(error: Exception) -> bool:
    """Tell whether a database does not answer. Where MLflow is asked over HTTP, SQLAlchemy may not be installed."""
    database = sys.modules.get("sqlalchemy.exc")
    return database is not None and isinstance(error, database.OperationalError)


def _judge(uri: str, code: str, status: int, text: str) -> Exception:
    where = f"the registry {without_credentials(uri)}"
    cause = _cause(text)
    if code == ABSENT or ABSENT_ALIAS.search(text):
        return NotInRegistryError(f"{where}: {cause}")
    if deleted := DELETED_EXPERIMENT.search(text):
        return deleted_experiment(uri, deleted["id"])
    if status == 401:
        return UserError(f"{where} refuses the login (status 401); {LOGIN}")
    if status == 403:
        return UserError(f"{where} denies access (status 403): {cause}")
    if status == 404:
        return UserError(f"{where} is not an MLflow server (status 404); check registry.tracking_uri")
    if any(word in text for word in UNKNOWN_HOST):
        return UserError(f"{where}: no such host; check registry.tracking_uri")
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return UserError(f"{where}: this machine does not trust the authority that signed its certificate")
    if status >= 500 or status == LATER:
        return UnreachableError(f"{where} did not answer: {cause}; run it again later")
    return UserError(f"{where} refuses: {cause}")


def deleted_experiment(uri: str, experiment: str, name: str = "") -> UserError:
    """Return the error of a model whose experiment was deleted in MLflow, with the line that restores it."""
    what = f"the experiment {name!r}" if name else f"the experiment {experiment}"
    return UserError(
        f"the registry {without_credentials(uri)}: {what} was deleted in MLflow; restore it with: "
        f"MLFLOW_TRACKING_URI={without_credentials(uri)} mlflow experiments restore --experiment-id {experiment}"
    )


def _cause(text: str) -> str:
    """Return the reason in the text of an error, as one line."""
    if found := CAUSE.search(text):
        quoted = QUOTED.match(found["cause"])
        text = quoted["text"] if quoted else found["cause"]
    return " ".join(text.split())[:200]
