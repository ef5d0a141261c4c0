"""What the API does again and again, whatever fails."""

import threading

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
