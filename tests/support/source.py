"""An in-process hub that misbehaves as a test asks."""

import hashlib
import json
import math
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from steps.plan.model_files.weight_headers import FIRST_BYTES
from tests.support.web import blob_id

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}
TOKENIZER = json.dumps({"added_tokens": [{"id": 1, "content": "</s>"}], "model": {"vocab": {"<s>": 0}}})
AT_ONCE = 1 << 16
FILLED_HEADER = 512  # bytes of length and header in a file that is filled up to a size


@dataclass
class Behaviour:
    """How to answer one request."""

    status: int = 0  # instead of the file
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes, after which the connection ends
    flipped: bool = False  # the first byte is wrong
    shorter: bool = False  # only half of the requested range, correctly declared
    says_size: int | None = None  # a wrong total size
    no_ranges: bool = False
    bytes_a_second: float = 0.0


@dataclass(frozen=True)
class Asked:
    """A request for a file."""

    name: str
    start: int
    end: int
    headers: dict[str, str]
    number: int  # among the requests for this file
    at: float


def sibling(file: Path) -> dict[str, Any]:
    """Return a file's entry in the hub's listing."""
    content = file.read_bytes()
    found: dict[str, Any] = {"rfilename": file.name, "size": len(content)}
    found["blobId"] = blob_id(content)
    if file.suffix == ".safetensors":
        sha256 = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
    return found


def send_json(request: BaseHTTPRequestHandler, value: Any) -> None:
    """Send a value as JSON."""
    body = json.dumps(value).encode()
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


class Source:
    """Serve a folder as `org/tiny`, in the way that `behave` returns for each request."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        """Start serving, without faults."""
        self.folder = folder
        self.behave: Callable[[Asked], Behaviour] = lambda _: Behaviour()
        self.asked: list[Asked] = []
        self.sent = 0  # bytes of weights, without the headers that a plan reads
        self.listed: list[dict[str, Any]] = [sibling(file) for file in sorted(folder.iterdir())]
        self._places = (f"/org/tiny/resolve/{COMMIT}/", "/moved/", "/folder/")
        self._lock = threading.Lock()
        source = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                # Keep little in flight, so that a killed process has received almost all that was sent.
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, AT_ONCE)
                super().setup()

            def do_GET(self) -> None:
                source.answer(self)

            def do_HEAD(self) -> None:
                source.answer(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer((host, 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://{host}:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()

    @property
    def size(self) -> int:
        """The size of the weights in bytes."""
        return sum(file.stat().st_size for file in self.folder.glob("*.safetensors"))

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = request.path.partition("?")[0]
        if path.startswith("/api/models/org/tiny/revision/"):
            send_json(request, {"id": "org/tiny", "sha": COMMIT, "siblings": self.listed, "gated": False})
        elif (
            path.startswith(f"/org/tiny/resolve/{COMMIT}/")
            or path.startswith("/moved/")
            or (path.startswith("/folder/") and (self.folder / path.rpartition("/")[2]).is_file())
        ):
            self._file(request, path.rpartition("/")[2])
        else:
            request.send_response(404)
            request.send_header("Content-Length", "0")
            request.end_headers()

    def _file(self, request: BaseHTTPRequestHandler, name: str) -> None:
        file = self.folder / name
        size = file.stat().st_size
        told = request.headers.get("Range", "")
        first, _, last = told.removeprefix("bytes=").partition("-")
        start, end = (int(first), min(int(last) + 1, size) if last else size) if told else (0, size)
        with self._lock:
            number = sum(one.name == name for one in self.asked)
            asked = Asked(
                name,
                start,
                end,
                {key.lower(): value for key, value in request.headers.items()},
                number,
                time.monotonic(),
            )
            self.asked.append(asked)
        how = self.behave(asked)
        if how.status:
            request.send_response(how.status)
            for key, value in how.headers.items():
                request.send_header(key, value)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if how.no_ranges:
            told, start, end = "", 0, size
        if how.shorter and end - start > 1:
            end = start + (end - start) // 2
        request.send_response(206 if told else 200)
        if told:
            request.send_header("Content-Range", f"bytes {start}-{end - 1}/{how.says_size or size}")
        request.send_header("Content-Length", str(end - start))
        request.send_header("ETag", f'"{hashlib.sha256(name.encode()).hexdigest()}"')
        request.end_headers()
        request.wfile.flush()
        if request.command == "GET":
            try:
                self._send(request, file, start, end, how)
            except OSError:
                request.close_connection = True

    def _send(self, request: BaseHTTPRequestHandler, file: Path, start: int, end: int, how: Behaviour) -> None:
        until = end if how.cut_after is None else min(end, start + how.cut_after)
        began, at, name = time.monotonic(), start, file.name
        with file.open("rb") as content:
            if how.flipped and until > at:
                byte = os.pread(content.fileno(), 1, at)
                at += request.connection.send(bytes([byte[0] ^ 1]))
                self._count(name, 1)
            while at < until:
                at_once = max(1, int(how.bytes_a_second / 20)) if how.bytes_a_second else AT_ONCE
                sent = os.sendfile(request.connection.fileno(), content.fileno(), at, min(at_once, until - at))
                at += sent
                if (start, end) != (0, min(FIRST_BYTES, file.stat().st_size)):
                    self._count(name, sent)
                if how.bytes_a_second:
                    time.sleep(max(0.0, began + (at - start) / how.bytes_a_second - time.monotonic()))
        if until < end:
            request.close_connection = True

    def _count(self, name: str, sent: int) -> None:
        with self._lock:
            self.sent += sent if name.endswith(".safetensors") else 0


def make_model(folder: Path, shards: int, shard_bytes: int) -> None:
    """Write a folder that looks like a model, with shards of random bytes, of so many bytes each, and their index."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(TOKENIZER)
    names = [f"model-{number:05d}-of-{shards:05d}.safetensors" for number in range(1, shards + 1)]
    for number, name in enumerate(names):
        write_safetensors(folder / name, {f"lm_head.part_{number}": ("U8", [])}, shard_bytes)
    weight_map = {f"lm_head.part_{number}": name for number, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def write_safetensors(file: Path, tensors: dict[str, tuple[str, list[int]]], size: int = 0) -> None:
    """Write random weights.

    Args:
        file: to write.
        tensors: type and shape of each, written in 16 bits a value; without a shape, in the bytes up to `size`.
        size: of the file, if one has no shape.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        length = 2 * math.prod(shape) if shape else size - end - FILLED_HEADER
        header[name] = {"dtype": dtype, "shape": shape or [length], "data_offsets": [end, end + length]}
        end += length
    text = json.dumps(header).encode()
    text = text.ljust(FILLED_HEADER - 8 if size else len(text))
    file.write_bytes(len(text).to_bytes(8, "little") + text + os.urandom(end))
