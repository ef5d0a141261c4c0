"""A real MLflow server, and a proxy before it that fails as a test asks."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def mlflow_server(folder: Path, database: str = "") -> Iterator[int]:
    """Serve MLflow's own server application from a thread, and yield its port.

    Args:
        folder: of the artifacts.
        database: its address; empty: a SQLite file in the folder.
    """
    import mlflow.server
    from mlflow.server import handlers
    from werkzeug.serving import make_server

    settings = {
        mlflow.server.BACKEND_STORE_URI_ENV_VAR: database or f"sqlite:///{folder / 'registry.db'}",
        mlflow.server.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        mlflow.server.ARTIFACTS_DESTINATION_ENV_VAR: str(folder),
        mlflow.server.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        for name in ("_tracking_store", "_model_registry_store", "_artifact_repo"):
            patch.setattr(handlers, name, None)
        handlers._get_tracking_store()  # it reads the settings once
        handlers._get_model_registry_store()
        mlflow.set_registry_uri(
            ""
        )  # which that has set for this whole process, whose clients have an address of their own
        server = make_server("127.0.0.1", 0, mlflow.server.app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_port)
        server.shutdown()


class RegistryProxy:
    """Passes requests on to a server, or answers them with `fault`: a status, `hang`, or `reset`."""

    def __init__(self, port: int = 0) -> None:
        """Start; without a server's port, only faults can be answered."""
        self.fault: int | str = 0
        self.asked = 0
        self.ended = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.asked += 1
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if proxy.fault == "hang":
                    proxy.ended.wait(60)
                if proxy.fault in ("hang", "reset"):
                    self.close_connection = True
                    return
                status, kind, answer = int(proxy.fault or 0), "text/plain", b"not today"
                if not status:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                    connection.request(
                        self.command, self.path, body, {**dict(self.headers), "Host": f"127.0.0.1:{port}"}
                    )
                    passed = connection.getresponse()
                    status, kind, answer = passed.status, passed.headers.get("Content-Type", ""), passed.read()
                    connection.close()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815 - names of the standard library

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
