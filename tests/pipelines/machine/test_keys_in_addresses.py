"""A run whose data are at an address with a password and a signature: it works, and neither is found in what it leaves."""

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from steps.common.storage import volumes
from tests.support.commands import fineline, tiny_recipe

PASSWORD, SIGNATURE, TOKEN = "pw-0b41c7d2", "c2lnLTlhZjM", "hf_61d0be7a44"


@pytest.fixture
def guarded(chats: Path) -> Iterator[str]:
    """The address of the rows, which are given only to who has the password and the signature."""
    expected = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("Authorization") == expected and self.path.endswith(f"?sig={SIGNATURE}")
            body = chats.read_bytes() if known else b""
            self.send_response(200 if known else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://me:{PASSWORD}@127.0.0.1:{server.server_address[1]}/rows.jsonl?sig={SIGNATURE}"
    server.shutdown()
    server.server_close()


def leaks(*texts: str) -> list[str]:
    """Return where a secret is found: in a text, or in a file of the two volumes."""
    secrets = [secret.encode() for secret in (PASSWORD, SIGNATURE, TOKEN)]
    found = [text for text in texts if any(secret in text.encode() for secret in secrets)]
    files = [file for root in (volumes.runs(), volumes.weights()) for file in root.rglob("*") if file.is_file()]
    assert files
    return found + [str(file) for file in files if any(secret in file.read_bytes() for secret in secrets)]


def test_a_run_keeps_no_key_of_an_address(guarded: str, tmp_path: Path, tiny_model: Path, chats: Path) -> None:
    recipe = tiny_recipe(tmp_path, tiny_model, chats)
    done = fineline("run", recipe, "-o", f"data.train={guarded}", "--json", environment={"HF_TOKEN": f"{TOKEN}\n"})
    assert done.returncode == 0, done.stderr
    assert (volumes.runs() / "mlflow.db").exists()
    assert leaks(done.stdout, done.stderr) == []


def test_a_run_that_is_refused_shows_no_key(guarded: str, tmp_path: Path, tiny_model: Path, chats: Path) -> None:
    recipe = tiny_recipe(tmp_path, tiny_model, chats)
    wrong = guarded.replace("/rows.jsonl", "/rows.jsonl/rows.jsonl").replace("?sig=", "?other=1&sig=")
    done = fineline("run", recipe, "-o", f"data.train={wrong}")
    assert done.returncode == 2
    assert "access denied (status 403); if it needs a key, start a new run with an address" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert SIGNATURE not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("model", "use hf:// with HF_TOKEN"),
        ("registry.tracking_uri", "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_an_address_that_later_steps_need_may_have_no_key(
    key: str, remedy: str, tmp_path: Path, tiny_model: Path, chats: Path
) -> None:
    recipe = tiny_recipe(tmp_path, tiny_model, chats)
    done = fineline("run", recipe, "-o", f"{key}=https://me:{PASSWORD}@example.org/folder/")
    assert done.returncode == 2
    assert f"{key}: the address has a key in it, and a recipe is kept; {remedy}" in done.stderr
    assert PASSWORD not in done.stderr
    assert not volumes.runs().exists()
