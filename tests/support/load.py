"""Clients that keep a served model under load."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.support.commands import wait_for

# The connection was refused, or the client tried to connect just as the last pod went away.
NOBODY = ("ConnectError", "ConnectTimeout")


@dataclass
class Load:
    """What the clients got: answers by version, and every failure."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def broken_off(self) -> list[str]:
        """Requests that failed after a server had accepted the connection."""
        return [failure for failure in self.failures if not any(nobody in failure for nobody in NOBODY)]


def wait_until_answered(url: str) -> None:
    """Wait for a Service's first answer: its pods are ready before the nodes send them the requests to its address."""
    wait_for(lambda: _answers(url), 60)


def _answers(url: str) -> bool:
    with suppress(httpx2.TransportError), httpx2.Client(timeout=5, trust_env=False) as client:
        return client.get(f"{url}/models").is_success
    return False


@contextmanager
def load(
    url: str, name: str, clients: int = 4, pause: float = 0.02, headers: dict[str, str] | None = None, **body: Any
) -> Iterator[Load]:
    """Keep clients asking the model at `url`, one request each at a time, until the block ends.

    `headers` is read for each request: what is changed in it changes what the clients send.
    """
    met, over = Load(), threading.Event()
    asked = {"model": name, "messages": [{"role": "user", "content": "when do you have food"}], **body}

    def ask() -> None:
        with httpx2.Client(timeout=httpx2.Timeout(120, connect=20), verify=False) as client:
            while not over.is_set():
                try:
                    answer = client.post(f"{url}/chat/completions", json=asked, headers=dict(headers or {}))
                    assert answer.is_success, f"{answer.status_code}: {answer.text}"
                    assert answer.json()["choices"][0]["message"]["role"] == "assistant"
                    met.answers[answer.headers["fineline-version"]] += 1
                except Exception as error:  # anything that a client would see
                    met.failures.append(f"{time.strftime('%H:%M:%S')} {error!r}")
                time.sleep(pause)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield met
    finally:
        over.set()
        for thread in threads:
            thread.join(150)
