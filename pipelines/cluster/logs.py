"""Prints the logs of a run's pods."""

import re

from pipelines.cluster.argo_server import ClusterConnection
from steps.common.kubernetes.api_errors import api_errors
from steps.common.runtime.errors import UserError

# Lines of Argo's executor, which starts the step and writes to the same log.
OF_ARGO = re.compile(r"^time=\S+ level=\w+ .*\bargo=true\b|^Error: exit status \d+$")


def print_log(connection: ClusterConnection, task: str, pod: str) -> None:
    """Print a pod's log, the task's name in front of each line; if it cannot be read, print why."""
    try:
        with api_errors():
            text = connection.core.read_namespaced_pod_log(pod, connection.namespace, container="main")
    except UserError as error:
        text = f"(no log: {error})"
    for line in str(text).splitlines():
        if not OF_ARGO.search(line):
            print(f"{task:<10} {line}")
