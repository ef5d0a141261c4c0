"""The namespace's settings: the ConfigMap `fineline`, which every step reads, and whether MLflow asks for a login."""

from pipelines.cluster.argo_server import ClusterConnection
from pipelines.workflows.step_pods.containers import SETTINGS
from steps.common.kubernetes.api_errors import ForbiddenError, none_if_absent
from steps.common.kubernetes.client import NoKubeconfigError

MLFLOW_LOGIN = "fineline-mlflow-auth"  # the ConfigMap of the component mlflow-auth


def setting(connection: ClusterConnection, name: str) -> str:
    """Return a setting of the namespace; empty if it is not set, or if the user may not read the ConfigMap.

    Whoever reaches Argo Server alone has no kubeconfig, and so reads no ConfigMap either.
    """
    return _read(connection, SETTINGS).get(name, "")


def asks_for_login(connection: ClusterConnection) -> bool:
    """Return whether the namespace's MLflow requires a login; False if the user may not read ConfigMaps."""
    return bool(_read(connection, MLFLOW_LOGIN))


def _read(connection: ClusterConnection, name: str) -> dict[str, str]:
    try:
        found = none_if_absent(lambda: connection.core.read_namespaced_config_map(name, connection.namespace))
    except (ForbiddenError, NoKubeconfigError):
        return {}
    return dict(found.data or {}) if found else {}
