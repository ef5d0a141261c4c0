"""Clients that ask all the while."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

# The connection is refused; or it was asked for as the last pod went, whose address then no longer answers.
NOBODY = ("ConnectError", "ConnectTimeout")


@dataclass
class Load:
    """What the clients met: answers by the version that gave them, and every failure."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def broken_off(self) -> list[str]:
        """The failures of requests that somebody had taken: all but those that found nobody there."""
        return [failure for failure in self.failures if not any(nobody in failure for nobody in NOBODY)]


@contextmanager
def load(url: str, name: str, clients: int = 4, pause: float = 0.02, **body: Any) -> Iterator[Load]:
    """Let clients ask the model at `url`, each again once it has its answer, until the block ends."""
    met, over = Load(), threading.Event()
    asked = {"model": name, "messages": [{"role": "user", "content": "when do you have food"}], **body}

    def ask() -> None:
        with httpx2.Client(timeout=httpx2.Timeout(120, connect=20), verify=False) as client:
            while not over.is_set():
                try:
                    answer = client.post(f"{url}/chat/completions", json=asked)
                    answer.raise_for_status()
                    assert answer.json()["choices"][0]["message"]["role"] == "assistant"
                    met.answers[answer.headers["fineline-version"]] += 1
                except Exception as error:  # whatever a client would have met
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
