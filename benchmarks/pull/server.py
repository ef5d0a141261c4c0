"""A model hub for benchmarks: its API and its files, with the latency and the bandwidth of a network.

    python benchmarks/pull/server.py FOLDER [--latency SECONDS] [--cap BYTES_A_SECOND] [--port PORT]

It prints its address and serves the folder as the repository `org/model`. The cap applies to each connection.
"""

import argparse
import hashlib
import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "org/model"
CAPPED_AT_ONCE = 1 << 16


def describe(folder: Path) -> list[dict[str, Any]]:
    """Return the files as the hub's API lists them."""
    found = []
    for file in sorted(folder.iterdir()):
        with file.open("rb") as source:
            sha256 = hashlib.file_digest(source, "sha256").hexdigest()
        found.append({"path": file.name, "size": file.stat().st_size, "sha256": sha256})
    return found


class Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    protocol_version = "HTTP/1.1"
    folder: Path
    files: list[dict[str, Any]]
    latency = 0.0
    cap = 0.0

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer a HEAD."""
        self._answer(body=False)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _answer(self, *, body: bool) -> None:
        time.sleep(self.latency)
        path = self.path.partition("?")[0]
        if path.startswith(f"/{REPOSITORY}/resolve/"):
            self._file(self.folder / path.rpartition("/")[2], body=body)
        elif "/tree/" in path:
            self._json([self._entry(file) for file in self.files])
        elif path.startswith(f"/api/models/{REPOSITORY}"):
            self._json({"id": REPOSITORY, "sha": COMMIT, "siblings": [self._sibling(file) for file in self.files]})
        else:
            self.send_error(404)

    def _entry(self, file: dict[str, Any]) -> dict[str, Any]:
        lfs = {"oid": file["sha256"], "size": file["size"], "pointerSize": 134}
        return {"type": "file", "path": file["path"], "size": file["size"], "oid": file["sha256"][:40], "lfs": lfs}

    def _sibling(self, file: dict[str, Any]) -> dict[str, Any]:
        lfs = {"sha256": file["sha256"], "size": file["size"], "pointerSize": 134}
        return {"rfilename": file["path"], "size": file["size"], "blobId": file["sha256"][:40], "lfs": lfs}

    def _json(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _file(self, file: Path, *, body: bool) -> None:
        size = file.stat().st_size
        start, end = 0, size
        asked = self.headers.get("Range", "")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(size, int(last) + 1) if last else size
        entry = next(one for one in self.files if one["path"] == file.name)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{entry["sha256"]}"')
        self.send_header("X-Linked-Etag", f'"{entry["sha256"]}"')
        self.send_header("X-Linked-Size", str(size))
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        self.wfile.flush()
        if body:
            try:
                self._send(file, start, end)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    def _send(self, file: Path, start: int, end: int) -> None:
        began, at = time.monotonic(), start
        with file.open("rb") as source:
            while at < end:
                at_once = CAPPED_AT_ONCE if self.cap else end - at
                at += os.sendfile(self.connection.fileno(), source.fileno(), at, min(at_once, end - at))
                if self.cap:
                    time.sleep(max(0.0, began + (at - start) / self.cap - time.monotonic()))


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--cap", type=float, default=0.0)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    Handler.folder, Handler.latency, Handler.cap = arguments.folder, arguments.latency, arguments.cap
    Handler.files = describe(arguments.folder)
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler)
    server.daemon_threads = True
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
