"""The way from a namespace's steps to the API server, opened as the doctor says."""

import os
import subprocess

from pipelines.cluster.connection import Connection
from pipelines.cluster.doctor.api_server import api_server
from pipelines.cluster.doctor.finding import State
from tests.support.kubectl import BUILT


def open_the_api_server(namespace: str) -> None:
    """Run the command that the doctor prints where the namespace's policies close the API server to its steps."""
    path = f"{BUILT.parent}{os.pathsep}{os.environ['PATH']}"
    for finding in api_server(Connection(namespace, "")):
        if finding.state is State.MISSING:
            command = ["bash", "-c", finding.remedy]
            subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PATH": path})
