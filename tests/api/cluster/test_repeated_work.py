"""What the API does again and again, whatever fails."""

import threading
from functools import partial

import pytest

from api.cluster.repeated_work import RepeatedWork


def test_a_failure_does_not_end_the_work(caplog: pytest.LogCaptureFixture) -> None:
    rounds, enough = list[int](), threading.Event()

    def fails() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            enough.set()
        raise ValueError("the volume is full")

    with RepeatedWork(fails, 0.0):
        assert enough.wait(60)
    assert "the volume is full" in caplog.text
    assert "fails failed; it is tried again in 0 s" in caplog.text


def test_the_log_names_the_work_without_its_arguments(caplog: pytest.LogCaptureFixture) -> None:
    failed = threading.Event()

    def fails(url: str) -> None:
        assert url
        failed.set()
        raise ValueError("the volume is full")

    with RepeatedWork(partial(fails, "postgresql://user:password@host"), 60.0) as work:
        assert failed.wait(60)
        work._stopping.set()
        work._thread.join(60)
    assert "fails failed; it is tried again in 60 s" in caplog.text
    assert "password" not in caplog.text.partition("Traceback")[0]
