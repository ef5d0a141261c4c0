"""A web server with faults, and a hub's data sets on it, over real HTTP."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
Answer = tuple[int, dict[str, str]]


class Web:
    """Serves what `content` holds by path, with the faults that are asked for."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.paths: dict[str, dict[str, Any]] = {}  # what is said of files by path, of those that a request names
        self.faults: dict[str, list[Answer]] = {}  # answers that come before the right one
        self.cuts: dict[str, int] = {}
        self.etags = True
        self.seen: list[tuple[str, str]] = []  # path and what was given as authorization
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                web.answer(self)

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())
                known = web.paths.get(self.path, {})
                web.content[self.path] = json.dumps([known[path] for path in form["paths"] if path in known]).encode()
                web.answer(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        self.seen.append((path, request.headers.get("Authorization", "")))
        headers: dict[str, str] = {}
        status, body = 404, b""
        if self.faults.get(path):
            status, headers = self.faults[path].pop(0)
        elif path in self.content:
            status, body = 200, self.content[path]
            headers = {"ETag": f'"{hashlib.md5(body).hexdigest()}"'} if self.etags else {}
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.cuts.get(path, 0) > 0 and body:
            self.cuts[path] -= 1
            body = body[: len(body) // 2]
            request.close_connection = True
        try:
            request.wfile.write(body)
        except OSError:
            return


def blob_id(content: bytes) -> str:
    """Return git's name for a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def put_data_set(web: Web, files: dict[str, bytes], revision: str = "main", name: str = "org/chats") -> None:
    """Let the server be a hub that has a data set, with these files at a revision."""
    api = f"/api/datasets/{name}"
    info = {"id": name, "sha": COMMIT, "siblings": [], "gated": False, "private": False}
    web.content[f"{api}/revision/{quote(revision, safe='')}"] = json.dumps(info).encode()
    folders = {"/".join(file.split("/")[:depth]) for file in files for depth in range(1, file.count("/") + 1)}
    entries = [
        {"type": "file", "path": file, "size": len(content), "oid": blob_id(content)} for file, content in files.items()
    ] + [{"type": "directory", "path": folder, "oid": "0" * 40} for folder in folders]
    for folder in ("", *folders):
        below = [one for one in entries if not folder or str(one["path"]).startswith(f"{folder}/")]
        web.content[f"{api}/tree/{COMMIT}{'/' if folder else ''}{quote(folder, safe='')}"] = json.dumps(below).encode()
    web.paths[f"{api}/paths-info/{COMMIT}"] = {str(one["path"]): one for one in entries}
    for file, content in files.items():
        web.content[f"/datasets/{name}/resolve/{COMMIT}/{quote(file)}"] = content
