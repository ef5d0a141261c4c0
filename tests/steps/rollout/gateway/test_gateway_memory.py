"""Clients that send large bodies, and do not finish them, take a gateway's memory: how much, and what the others notice."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil
import pytest

from steps.rollout.gateway import gateway_memory
from steps.rollout.gateway.admin import EnvoyAdmin
from steps.rollout.gateway.gateway_memory import gateway_memory_bytes, heap_bytes, most_connections
from steps.rollout.gateway.upstream import Rules
from tests.steps.rollout.gateway.test_gateway import Gate, gates
from tests.support.commands import wait_for

MIB = 1 << 20


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    yield from gates(tmp_path, "", request_bytes=4 * MIB)


@pytest.fixture
def full_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A gateway that accepts nothing more once a few bodies are held."""
    monkeypatch.setattr(gateway_memory, "FREELY_HELD", 1 << 20)
    yield from gates(tmp_path, "", request_bytes=4 * MIB)


@dataclass
class Memory:
    """The most memory of a process, and what a client got meanwhile."""

    peak: int = 0
    got: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0


@contextmanager
def watched(gate: Gate) -> Iterator[Memory]:
    found, over = Memory(), threading.Event()
    process = psutil.Process(gate.gateway.process.pid)

    def measure() -> None:
        while not over.wait(0.01):
            found.peak = max(found.peak, process.memory_info().rss)

    def ask() -> None:
        while not over.wait(0.02):
            began = time.monotonic()
            found.got[gate.post().status_code] += 1
            found.slowest = max(found.slowest, time.monotonic() - began)

    threads = [threading.Thread(target=measure), threading.Thread(target=ask)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
        # With `-s`, the figures of docs/measurements.md.
        print(f"peak: {found.peak >> 20} MiB; answers: {dict(found.got)}; slowest: {found.slowest:.2f} s")


@contextmanager
def unfinished(gate: Gate, posts: int, size: int) -> Iterator[list[socket.socket]]:
    """Keep so many posts open that lack their last bytes."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n"
    body = b'{"model":"store","messages":"' + b"x" * (size - 100)
    opened: list[socket.socket] = []
    for _ in range(posts):
        one = socket.create_connection(("127.0.0.1", gate.rules.port), timeout=10)
        opened.append(one)
        try:
            one.sendall(head.encode() + body)
        except OSError:  # refused while it sends
            continue
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


def test_unfinished_posts_take_bounded_memory_and_others_are_answered_meanwhile(gate: Gate) -> None:
    with watched(gate) as memory, unfinished(gate, 120, 4 * MIB - 100):
        time.sleep(1)
    assert memory.peak > 400 * MIB
    assert memory.peak < heap_bytes(gate.rules) + 64 * MIB
    assert set(memory.got) == {200}


def test_more_than_the_heap_has_room_for_are_refused_at_once_in_openais_form(full_at_once: Gate) -> None:
    with unfinished(full_at_once, 60, 4 * MIB - 100):
        answer = wait_for(lambda: (got := full_at_once.post()).status_code == 503 and got, 120)
        began = time.monotonic()
        assert full_at_once.post().status_code == 503
        assert time.monotonic() - began < 2
    error = answer.json()["error"]
    assert (error["code"], error["message"]) == (503, "too many requests are being received; try again later")
    assert answer.headers["retry-after"] == "1"
    assert wait_for(lambda: full_at_once.post().status_code == 200, 120)


def test_a_flood_stays_below_the_containers_limit(gate: Gate) -> None:
    with watched(gate) as memory, unfinished(gate, 500, 4 * MIB - 100):
        time.sleep(1)
    assert memory.peak < gateway_memory_bytes(gate.rules)
    assert set(memory.got) <= {200, 503}
    assert wait_for(lambda: gate.post().status_code == 200, 120)


def test_bodies_that_are_costly_to_read_stay_below_the_limit_too(gate: Gate) -> None:
    body = b'{"model":"store","x":[' + b"0," * ((4 * MIB - 40) // 2) + b"0]}"
    with watched(gate) as memory:
        asking = [
            threading.Thread(target=httpx2.post, args=(f"{gate.url}/v1/chat/completions",), kwargs=given(body))
            for _ in range(3)
        ]
        for one in asking:
            one.start()
        for one in asking:
            one.join(60)
    assert 300 * MIB < memory.peak < gateway_memory_bytes(gate.rules)


def given(body: bytes) -> dict[str, object]:
    return {"content": body, "headers": {"content-type": "application/json"}, "timeout": 60}


@pytest.mark.parametrize("mib", [0.01, 1, 4, 64, 1024])
def test_the_limit_covers_a_body_on_every_connection_and_one_that_each_worker_reads(mib: float) -> None:
    rules = Rules(name="m", host="h", port=1, answer_seconds=1, request_bytes=int(mib * MIB))
    room = gateway_memory_bytes(rules) - most_connections(rules) * rules.request_bytes
    assert room > gateway_memory.WORKERS * 91 * rules.request_bytes + 64 * MIB
    assert heap_bytes(rules) < gateway_memory_bytes(rules)


@pytest.fixture
def few_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setattr(gateway_memory, "MOST_CONNECTIONS", 8)
    yield from gates(tmp_path, "", request_bytes=4 * MIB)


def test_a_gateway_accepts_no_more_connections_than_it_has_memory_for(few_connections: Gate) -> None:
    admin = EnvoyAdmin(Path(few_connections.gateway.admin))
    with unfinished(few_connections, 8, 1000):
        # Its two workers take connections side by side, not in their order.
        wait_for(lambda: admin.active_requests("http.gateway.downstream_cx_active") == 8, 120)
        with pytest.raises(httpx2.HTTPError):
            few_connections.post()
    assert wait_for(lambda: few_connections.post().status_code == 200, 120)
