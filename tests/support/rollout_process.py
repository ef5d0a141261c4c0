"""A rollout, a rollback or a recovery as a process outside of the cluster, so that it can be killed at any moment.

The code is the steps' own, and so are gateways, Services and Deployments. Only the model servers answer without a model, so
that they start at once. The processes are forked from one that has imported all but the Kubernetes client, which reads
KUBECONFIG when it is imported.
"""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import mlflow  # noqa: F401

from steps.common.runtime import cluster_settings
from steps.common.runtime.exit_codes import step
from steps.common.storage import volumes
from steps.restore.step import RestoreInput, restore
from steps.rollout.places.cluster_place import ClusterPlace
from steps.rollout.pods import pod_spec, version_objects
from steps.rollout.recover import RecoverInput, recover
from steps.rollout.step import RolloutInput, rollout
from tests.support.kubectl import get

SERVER = """
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.answer({"status": "ok"})
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"choices": [{"message": {"role": "assistant", "content": "we are open"}}]})
    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""


def light_server(spec: version_objects.VersionSpec) -> dict[str, Any]:
    """Return the container of a server that needs no model."""
    mounts = [version_objects.model_mount(spec.name, spec.sub_path)]
    return {
        **pod_spec.container("server", spec.image, ["python3", "-c", SERVER], mounts),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
    }


def address(_: ClusterPlace, service: str) -> str:
    """Return the base URL of a Service, whose name is not known outside of the cluster."""
    return f"http://{get('service', service, cluster_settings.namespace())['spec']['clusterIP']}/v1"


@step
def main(what: str, name: str = "", version: str = "") -> None:
    """Do as the task of the workflow does."""
    version_objects.transformers = light_server
    ClusterPlace._url = address  # type: ignore[assignment]
    if what == "recovery":
        print(recover(RecoverInput()).recovered, flush=True)
        return
    back = what == "rollback"
    found = restore(RestoreInput(name=name, version=version, force="true"))
    base = str(volumes.published_model(found.model.digest))
    given = {**found.model_dump(include={"resolved", "adapter_folder", "version", "report"}), "base_folder": base}
    given |= {"resolved": found.resolved, "back": back, "by": "a test", "run": f"{what}-{os.getpid()}"}
    rollout(RolloutInput(**given))


def _run(log: str, settings: dict[str, str], what: str, name: str, version: str) -> None:
    os.environ |= {**settings, "hera__outputs_directory": log}
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    main(what, name, version)


class RolloutProcess:
    """A process that changes what a model serves."""

    def __init__(self, log: Path, settings: dict[str, str], what: str, name: str = "", version: str = "") -> None:
        """Start it.

        Args:
            log: file for its output.
            settings: environment variables.
            what: rollout, rollback or recovery.
            name: name of the model.
            version: the version to serve.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._log = log
        self._process = context.Process(target=_run, args=(str(log), settings, what, name, version))
        self._process.start()

    def wait(self, seconds: float) -> int | None:
        """Return its exit code once it has ended, or None after so many seconds."""
        self._process.join(seconds)
        return self._process.exitcode

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process.pid
        os.kill(self._process.pid, number)

    @property
    def log(self) -> str:
        """Its output."""
        return self._log.read_text() if self._log.exists() else ""
