"""`fineline api` as a process: it starts, answers, and stops when it is told to."""

import signal
import socket
import subprocess
from collections.abc import Iterator

import httpx2
import pytest

from api.api_settings import api_settings
from api.database.engine import open_database
from tests.support.api_server import client_of, team_key
from tests.support.commands import begin, fineline, free_port, wait_for


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = begin("api", "--port", "0")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving on http://127.0.0.1:"), process.communicate()
        yield process, line.split()[2].removesuffix("/v1;")
    finally:
        process.kill()
        process.communicate()


def key_of(team: str) -> str:
    return team_key(open_database(api_settings().database), team)


def test_it_serves_what_openais_client_asks_for(server: tuple[subprocess.Popen[str], str]) -> None:
    _, address = server
    assert httpx2.get(f"{address}/health").json() == {"status": "ok"}
    client = client_of(address, key_of("pets"))
    assert client.files.list().data == []
    assert client.models.list().data


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_it_is_told_to(server: tuple[subprocess.Popen[str], str], told: signal.Signals) -> None:
    process, address = server
    httpx2.get(f"{address}/health")
    process.send_signal(told)
    assert process.wait(30) == 0
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{address}/health")


def test_an_upload_that_is_under_way_is_finished_first(server: tuple[subprocess.Popen[str], str]) -> None:
    process, address = server
    host, port = address.removeprefix("http://").split(":")
    row = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    form = (
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n' + row * 20 + b"\r\n--x--\r\n"
    )
    head = (
        f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key_of('pets')}\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(form)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head.encode() + form[:200])
        wait_for(lambda: httpx2.get(f"{address}/health").status_code == 200)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: not _connects(host, int(port)), 120)
        connection.sendall(form[200:])
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert process.wait(30) == 0


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


def test_a_port_that_is_taken_is_one_line() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        done = fineline("api", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr == (
        f"fineline: cannot listen on 127.0.0.1 port {port}: Address already in use; choose another --port\n"
    )


def test_a_host_that_is_not_this_machine_is_one_line() -> None:
    done = fineline("api", "--host", "192.0.2.1", "--port", "0")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "cannot listen on 192.0.2.1" in done.stderr
