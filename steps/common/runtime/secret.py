"""The secrets that this process may hold: the settings that they come in, and how they are read."""

import json
import os
import unicodedata
from urllib.parse import quote, unquote, urlsplit

from steps.common.runtime.errors import UserError

# The Secret of a cluster that a setting comes from: its suffix and its key. Empty: it comes from no Secret.
SECRETS = {
    "HF_TOKEN": "hub, key token",
    "AWS_SECRET_ACCESS_KEY": "object-store",
    "AWS_SESSION_TOKEN": "object-store",
    "AZURE_STORAGE_KEY": "object-store",
    "MLFLOW_TRACKING_PASSWORD": "mlflow, key password",
    "MLFLOW_TRACKING_TOKEN": "",
    "FINELINE_API_KEY": "api-key, key key",
    "FINELINE_API_KEY_PREVIOUS": "api-key, key previous",
    "FINELINE_WEBHOOK": "webhook, key url",
    "ARGO_TOKEN": "",
}
# Read together with a secret: a line break in one of these breaks the same header or signature.
BESIDE = {
    "MLFLOW_TRACKING_USERNAME": "mlflow, key username",
    "AWS_ACCESS_KEY_ID": "object-store",
    "AWS_REGION": "object-store",
    "AWS_ENDPOINT_URL": "object-store",
    "AZURE_STORAGE_ACCOUNT": "object-store",
}
SHORTEST = 8  # characters: a shorter value also occurs in text that has nothing to do with it


def read_secret(setting: str) -> str:
    """Return a secret without the white space around it; empty if it is not set.

    Raises:
        UserError: it has a control character inside. The value is not quoted.
    """
    value = os.environ.get(setting, "").strip()
    if any(unicodedata.category(character) == "Cc" for character in value):
        secret = {**SECRETS, **BESIDE}.get(setting, "")
        where = f" (in a cluster: the Secret NAME-{secret})" if secret else ""
        raise UserError(f"{setting}: has a line break or another control character inside; set it again{where}")
    return value


def strip_secrets() -> None:
    """Strip every secret in this process's environment, where libraries and child processes read it.

    `kubectl create secret --from-file` keeps the line break at the end of a file, and HTTP clients quote a header that they
    refuse.

    Raises:
        UserError: one has a control character inside.
    """
    for setting in (*SECRETS, *BESIDE):
        if setting in os.environ:
            os.environ[setting] = read_secret(setting)


def held() -> set[str]:
    """Return the values that must not leave this process: its secrets and the passwords in addresses of its settings.

    Each one is also returned as JSON and URLs write it.
    """
    values = {part.strip() for setting in SECRETS for part in os.environ.get(setting, "").splitlines()}
    values |= {_password(value) for value in os.environ.values() if "://" in value and "@" in value}
    values = {value for value in values if len(value) >= SHORTEST}
    return values | {json.dumps(value)[1:-1] for value in values} | {quote(value, safe="") for value in values}


def _password(address: str) -> str:
    try:
        return unquote(urlsplit(address).password or "")
    except ValueError:
        return ""
