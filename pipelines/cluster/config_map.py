"""The namespace's settings: the ConfigMap `fineline`, which every step reads."""

from pipelines.cluster.argo_server import ClusterConnection
from pipelines.workflows.step_pods.containers import SETTINGS
from steps.common.kubernetes.api_errors import ForbiddenError, none_if_absent


def setting(connection: ClusterConnection, name: str) -> str:
    """Return a setting of the namespace; empty if it is not set, or if the user may not read the ConfigMap."""
    try:
        found = none_if_absent(lambda: connection.core.read_namespaced_config_map(SETTINGS, connection.namespace))
    except ForbiddenError:
        return ""
    return str((found.data or {}).get(name, "")) if found else ""
