"""The namespace's settings: what the ConfigMap `fineline` holds for every step."""

from pipelines.cluster.argo_server import Cluster
from pipelines.cluster.connection import told
from pipelines.workflows.containers import SETTINGS


def setting(connection: Cluster, name: str) -> str:
    """Return a setting of the namespace; empty where it is not set or may not be looked at."""
    from kubernetes.client import ApiException

    with told():
        try:
            return str(
                (connection.core.read_namespaced_config_map(SETTINGS, connection.namespace).data or {}).get(name, "")
            )
        except ApiException as error:
            if error.status not in (403, 404):
                raise
            return ""
