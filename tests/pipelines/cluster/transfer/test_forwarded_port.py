"""What a person sees of a connection to a pod that breaks."""

import socket
import ssl
import threading
import time
from types import SimpleNamespace
from typing import Any

import kubernetes.stream
import pytest

from pipelines.cluster.transfer.forwarded_port import ForwardedPort
from steps.common.port_forward.token_listener import PORT


class Proxy:
    """As the client's: a thread that carries the data, and ends with an error when it writes to a closed connection."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        threading.Thread(target=self._carry, daemon=True).start()

    def _carry(self) -> None:
        self.theirs.recv(1)
        raise ssl.SSLEOFError(8, "EOF occurred in violation of protocol")

    def socket(self, _port: int) -> socket.socket:
        return self.ours

    def error(self, _port: int) -> None:
        return None

    def close(self) -> None:
        self.ours.close()


def test_a_connection_that_breaks_wakes_whoever_reads_and_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kubernetes.stream, "portforward", lambda *_, **__: Proxy())
    core = SimpleNamespace(connect_get_namespaced_pod_portforward=None)
    connection: Any = SimpleNamespace(core=core, namespace="space")
    before = time.monotonic()
    with ForwardedPort(connection, "pod", PORT) as forward:
        forward.conversation.tell("token")
        with pytest.raises(ConnectionError):
            forward.conversation.hear()
        assert time.monotonic() - before < 30
        assert "EOF occurred in violation of protocol" in forward.problem()
    assert capsys.readouterr().err == ""


def test_the_errors_of_other_threads_are_still_shown() -> None:
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", seen.append)
        patch.setattr(kubernetes.stream, "portforward", lambda *_, **__: Proxy())
        core = SimpleNamespace(connect_get_namespaced_pod_portforward=None)
        connection: Any = SimpleNamespace(core=core, namespace="space")
        with ForwardedPort(connection, "pod", PORT):
            other = threading.Thread(target=lambda: 1 / 0)
            other.start()
            other.join()
    assert [one.exc_type for one in seen] == [ZeroDivisionError]
