"""An in-process Hugging Face Hub: its API and files over real HTTP, with the faults of a real network."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.source import COMMIT, send_json, sibling


def point_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let the server at a URL be the hub."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", url)


class Hub:
    """Serve one repository, `org/tiny`, from a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.served: dict[str, int] = {}  # bytes sent by file
        self.cuts: dict[str, int] = {}  # how many more times the connection ends halfway through a file
        self.wrong: dict[str, int] = {}  # how many more times a file is sent with a wrong byte
        self.bytes_a_second = 0.0
        self.gated = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            def do_HEAD(self) -> None:
                hub.answer(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def siblings(self) -> list[dict[str, Any]]:
        return [sibling(file) for file in sorted(self.folder.iterdir())]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        if path.endswith("/auth-check"):
            self._error(request, 403, "GatedRepo") if self.gated else send_json(request, {})
        elif path in (f"/api/models/org/tiny/revision/{name}" for name in ("main", COMMIT)):
            info = {
                "id": "org/tiny",
                "sha": COMMIT,
                "siblings": self.siblings(),
                "gated": "manual" if self.gated else False,
            }
            send_json(request, info)
        elif path.startswith("/api/models/org/tiny/revision/"):
            self._error(request, 404, "RevisionNotFound")
        elif path.startswith(f"/org/tiny/resolve/{COMMIT}/"):
            self._file(request, self.folder / path.rpartition("/")[2])
        else:
            self._error(request, 404, "RepoNotFound")

    def _error(self, request: BaseHTTPRequestHandler, status: int, code: str) -> None:
        request.send_response(status)
        request.send_header("X-Error-Code", code)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _file(self, request: BaseHTTPRequestHandler, file: Path) -> None:
        content = file.read_bytes()
        whole = len(content)
        wanted = request.headers.get("Range", "")
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first or 0), min(int(last) + 1, whole) if last else whole
        content = content[start:end]
        if self.wrong.get(file.name, 0) > 0:
            self.wrong[file.name] -= 1
            content = content[:-1] + bytes([content[-1] ^ 1])
        sent = content
        if self.cuts.get(file.name, 0) > 0:
            self.cuts[file.name] -= 1
            sent = content[: len(content) // 2]
        request.send_response(206 if wanted else 200)
        if wanted:
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{whole}")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        for at in range(0, len(sent), 4096):
            block = sent[at : at + 4096]
            try:
                request.wfile.write(block)
            except OSError:
                return
            self.served[file.name] = self.served.get(file.name, 0) + len(block)
            if self.bytes_a_second:
                time.sleep(len(block) / self.bytes_a_second)
        if len(sent) < len(content):
            request.close_connection = True
