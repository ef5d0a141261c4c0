"""A data file arrives whole, from the sender that knows the token, or not at all."""

import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steps.common.port_forward import token_listener
from steps.common.port_forward.parts import PART
from steps.common.runtime.errors import UserError
from steps.common.storage import volumes
from steps.receive.step import ReceiveInput, receive
from tests.support.commands import free_port

TOKEN = secrets.token_urlsafe(32)
DATA = secrets.token_bytes(PART + 1000)


class Waiting:
    """A receive step that waits for a file."""

    def __init__(self, data: bytes = DATA, name: str = "rows.jsonl") -> None:
        self.result: list[str] = []
        given = {"file": name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        self._given = ReceiveInput(**given, token_sha256=token_listener.digest_of_token(TOKEN))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result.append(receive(self._given).path)
        except UserError as error:
            self.result.append(f"refused: {error}")

    def end(self) -> str:
        self._thread.join(30)
        return self.result[0]


@pytest.fixture(autouse=True)
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv(volumes.RUNS_SETTING, str(tmp_path))
    found = free_port()
    monkeypatch.setattr(token_listener.listen_once, "__defaults__", (found,))
    return found


@pytest.fixture
def connect(port: int) -> Iterator[Callable[[], socket.socket]]:
    opened: list[socket.socket] = []

    def to_listener() -> socket.socket:
        for _ in range(100):
            try:
                opened.append(socket.create_connection(("127.0.0.1", port), timeout=20))
                return opened[-1]
            except ConnectionRefusedError:
                time.sleep(0.05)
        raise AssertionError("nobody listens")

    yield to_listener
    for one in opened:
        one.close()


def said(connection: socket.socket) -> str:
    return connection.makefile("r").readline().strip()


def stored(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_the_sender_that_knows_the_token_sends_one_file_and_nobody_else_any(
    connect: Callable[[], socket.socket], tmp_path: Path
) -> None:
    waiting = Waiting()
    stranger = connect()
    stranger.sendall(b"guess\n" + DATA[:10])
    assert said(stranger).startswith("refused")
    sender = connect()
    answers = sender.makefile("r")
    sender.sendall(f"{TOKEN}\n".encode())
    assert answers.readline() == "send\n"
    sender.sendall(DATA[:PART])
    assert answers.readline() == f"{PART}\n"
    sender.sendall(DATA[PART:])
    assert answers.readline() == "received\n"
    path = Path(waiting.end())
    assert path.read_bytes() == DATA
    assert path == tmp_path / "data" / hashlib.sha256(DATA).hexdigest()[:16] / "rows.jsonl"
    assert stored(tmp_path) == ["rows.jsonl"]
    assert Waiting().end() == str(path)  # it is there already: nobody has to send it
    with pytest.raises(AssertionError, match="nobody listens"):
        connect()


def test_the_parameters_do_not_hold_the_token() -> None:
    """Whoever may list workflows reads them."""
    assert TOKEN not in token_listener.digest_of_token(TOKEN)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        pytest.param(DATA[:-1] + bytes([DATA[-1] ^ 1]), "it changed while it was sent", id="another"),
        pytest.param(DATA[:100], f"{len(DATA) - 100} of {len(DATA)} bytes missing", id="a part"),
    ],
)
def test_another_file_or_a_part_of_one_leaves_nothing(
    sent: bytes, reason: str, connect: Callable[[], socket.socket], tmp_path: Path
) -> None:
    waiting = Waiting()
    sender = connect()
    sender.sendall(f"{TOKEN}\n".encode() + sent)
    sender.shutdown(socket.SHUT_WR)
    told = sender.makefile("r").read().splitlines()
    assert told[0] == "send"
    assert told[-1].startswith("refused rows.jsonl: ")
    assert reason in told[-1]
    assert reason in waiting.end()
    assert stored(tmp_path) == []


def test_a_connection_that_sends_nothing_does_not_keep_the_sender_out(
    connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_listener, "TOKEN_SECONDS", 0.2)
    waiting = Waiting(b"row")
    connect()
    sender = connect()
    sender.sendall(f"{TOKEN}\nrow".encode())
    assert sender.makefile("r").read().split() == ["send", "received"]
    assert Path(waiting.end()).read_bytes() == b"row"


def test_a_step_that_nobody_sends_anything_to_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_listener, "WAIT_SECONDS", 0.3)
    assert Waiting().end() == "refused: nobody has connected in 0 min; run the command again"


def test_a_name_of_the_api_is_refused() -> None:
    assert "is a name for files of the API" in Waiting(name="uploaded.jsonl.gz").end()


@pytest.mark.parametrize("name", ["../rows.jsonl", "/etc/passwd", "..", "", "a\nb"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    assert Waiting(name=name).end().endswith("is not the name of a file; give it without a folder")
