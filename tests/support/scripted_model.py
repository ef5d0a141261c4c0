"""A model server that does what a test says: it streams piece by piece when it may, fails, and tells when its client goes."""

import json
import queue
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from steps.rollout.gateway.upstream import Upstream


@dataclass
class ScriptedModel:
    """The server, and what it was asked."""

    version: int = 1
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    body: bytes = b"{}"
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)  # path, headers, body
    pieces: "queue.Queue[bytes | None]" = field(default_factory=queue.Queue)  # of a stream; None: its end
    gone: threading.Event = field(default_factory=threading.Event)  # the client went before the end
    silent: threading.Event = field(default_factory=threading.Event)  # it does not answer until the client goes
    port: int = 0

    def start(self) -> ThreadingHTTPServer:
        """Serve from a thread."""
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(200, {}, b"{}")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                model.asked.append((self.path, {key.lower(): value for key, value in self.headers.items()}, body))
                if model.silent.is_set():
                    self._wait_until_gone()
                elif json.loads(body).get("stream"):
                    self._stream()
                else:
                    self._answer(model.status, model.headers, model.body)

            def _wait_until_gone(self) -> None:
                if self.connection.recv(1) == b"":
                    model.gone.set()
                self.close_connection = True

            def _stream(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.connection.settimeout(0.02)
                while not self._has_gone():
                    try:
                        piece = model.pieces.get(timeout=0.02)
                    except queue.Empty:
                        continue
                    if piece is None:
                        self.wfile.write(b"0\r\n\r\n")
                        return
                    if piece == b"":  # break off
                        self.close_connection = True
                        return
                    self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                    self.wfile.flush()
                model.gone.set()
                self.close_connection = True

            def _has_gone(self) -> bool:
                try:
                    return not self.connection.recv(1)
                except TimeoutError:
                    return False
                except OSError:
                    return True

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        return server

    @property
    def upstream(self) -> Upstream:
        """The server as a gateway knows it."""
        return Upstream(port=self.port, version=self.version, run="run", base="base", adapter_sha256="abc")
