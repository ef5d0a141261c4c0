"""Requests a minute: exact, fair between teams, and of bounded memory."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from api.teams import request_rate
from api.teams.request_rate import RequestRate
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rate(clock: Clock) -> RequestRate:
    return RequestRate(clock)


def allowed(rate: RequestRate, team: str, a_minute: int | None, asked: int) -> int:
    return sum(rate.wait_seconds(team, a_minute) == 0 for _ in range(asked))


def test_a_team_makes_as_many_requests_as_it_may(rate: RequestRate) -> None:
    assert allowed(rate, "pets", 5, 9) == 5
    assert allowed(rate, "vets", 3, 9) == 3
    assert allowed(rate, "free", None, 100) == 100


def test_after_the_wait_that_was_said_a_request_is_allowed_and_before_it_is_not(
    rate: RequestRate, clock: Clock
) -> None:
    allowed(rate, "pets", 4, 4)
    assert rate.wait_seconds("pets", 4) == 15
    clock.now += 14.9
    assert rate.wait_seconds("pets", 4) == 1
    clock.now += 0.1
    assert allowed(rate, "pets", 4, 2) == 1


def test_a_minute_of_silence_gives_the_whole_allowance_and_no_more(rate: RequestRate, clock: Clock) -> None:
    allowed(rate, "pets", 4, 4)
    clock.now += 3600
    assert allowed(rate, "pets", 4, 9) == 4


def test_requests_that_were_refused_do_not_count(rate: RequestRate, clock: Clock) -> None:
    allowed(rate, "pets", 60, 1000)
    clock.now += 1
    assert rate.wait_seconds("pets", 60) == 0


def test_a_limit_that_is_changed_holds_from_the_next_request_on(rate: RequestRate, clock: Clock) -> None:
    assert allowed(rate, "pets", 100, 1) == 1
    assert allowed(rate, "pets", 2, 9) == 2
    clock.now += 6
    assert allowed(rate, "pets", 100, 20) == 10


def test_a_limit_of_nothing_refuses_everything(rate: RequestRate, clock: Clock) -> None:
    assert rate.wait_seconds("pets", 0) == 60
    clock.now += 60
    assert rate.wait_seconds("pets", 0) == 60


def test_threads_together_make_no_more_than_one_would(rate: RequestRate) -> None:
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: allowed(rate, "pets", 500, 200), range(8)))
    assert sum(counts) == 500


def test_teams_that_were_silent_are_forgotten(rate: RequestRate, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_rate, "MOST_TEAMS", 10)
    for number in range(10):
        rate.wait_seconds(f"old-{number}", 1)
    clock.now += 60
    rate.wait_seconds("new", 1)
    assert set(rate._teams) == {"new"}
