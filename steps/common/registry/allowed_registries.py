"""Which registries a process may talk to, and with whose password.

In a cluster a recipe is written by someone else than whoever has set MLflow's password: the password goes to the
installation's own registry alone, and nothing is sent to a registry that the installation does not name.
"""

import os

from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import UserError
from steps.common.runtime.redaction import without_credentials

REGISTRIES_SETTING = "FINELINE_REGISTRIES"  # addresses, separated by commas, that recipes may name besides the own one
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def check_allowed(uri: str, own: str) -> None:
    """Refuse a registry that a step in a cluster may not talk to.

    Args:
        uri: its address.
        own: the address of the installation's own registry.

    Raises:
        UserError: the installation does not name it.
    """
    named = [address for text in os.environ.get(REGISTRIES_SETTING, "").split(",") if (address := text.strip())]
    if cluster_settings.in_cluster() and not any(_same(uri, allowed) for allowed in (own, *named)):
        raise UserError(
            f"registry.tracking_uri: this installation does not allow {without_credentials(uri)}; remove the key from the "
            f"recipe, or add the address to {REGISTRIES_SETTING} in the ConfigMap fineline"
        )


def withhold_credentials(uri: str, own: str) -> None:
    """Take MLflow's password out of this process's environment if, in a cluster, the registry is not the installation's own."""
    if cluster_settings.in_cluster() and not _same(uri, own):
        for setting in CREDENTIALS:
            os.environ.pop(setting, None)


def _same(one: str, other: str) -> bool:
    return without_credentials(one).rstrip("/") == without_credentials(other).rstrip("/")
