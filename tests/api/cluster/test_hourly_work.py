"""What the API does every hour: in rounds, whatever fails."""

import threading

import pytest

from api.cluster.hourly_work import HourlyWork


def test_a_task_that_fails_holds_up_neither_the_others_nor_the_next_round(caplog: pytest.LogCaptureFixture) -> None:
    rounds, enough = list[int](), threading.Event()

    def fails() -> None:
        raise ValueError("a bad record")

    def counts() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            enough.set()

    with HourlyWork(fails, counts, seconds=0.0):
        assert enough.wait(60)
    assert "a bad record" in caplog.text
    assert "the hourly work failed" in caplog.text
