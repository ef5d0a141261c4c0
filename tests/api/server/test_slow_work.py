"""Slow work: a few at once, a few of each team that wait, and no more."""

import threading

import anyio
import httpx2
import pytest
from anyio.to_thread import current_default_thread_limiter, run_sync

from api.openai_errors import ApiError
from api.server.slow_work import AT_ONCE, MOST_OF_A_TEAM, SlowWork
from tests.support.api_server import machine_app


async def until(count: int, there_is: list[str]) -> None:
    while len(there_is) < count:
        await anyio.sleep(0.01)


async def many(one_of_a_team: bool) -> None:
    at_once = 3 if one_of_a_team else AT_ONCE
    slow, end, begun = SlowWork("plans", at_once, one_of_a_team=one_of_a_team), threading.Event(), list[str]()

    def work(team: str) -> str:
        begun.append(team)
        end.wait()
        return team

    done: list[str] = []

    async def one(team: str) -> None:
        done.append(await slow.run(team, work, team))

    async with anyio.create_task_group() as group:
        for _ in range(MOST_OF_A_TEAM):
            assert slow.refusal("pets") is None
            group.start_soon(one, "pets")
            await anyio.wait_all_tasks_blocked()
        with pytest.raises(
            ApiError, match=r"^4 plans of the team are under way or waiting; try again in 30 seconds$"
        ) as refused:
            await slow.run("pets", work, "pets")
        assert (refused.value.status, refused.value.wait_seconds) == (503, 30)
        assert slow.refusal("cars") is None
        group.start_soon(one, "cars")
        await anyio.wait_all_tasks_blocked()
        await until(2, begun)
        assert sorted(begun) == (["cars", "pets"] if one_of_a_team else ["pets", "pets"])
        assert await run_sync(lambda: "other work goes on") == "other work goes on"
        end.set()
    assert sorted(done) == ["cars", *["pets"] * MOST_OF_A_TEAM]
    assert slow.refusal("pets") is None


@pytest.mark.parametrize("one_of_a_team", [False, True])
def test_a_team_that_has_a_few_is_sent_away_and_no_other_team(one_of_a_team: bool) -> None:
    anyio.run(many, one_of_a_team)


async def given_up() -> None:
    slow, end, begun = SlowWork("changes", 8, one_of_a_team=True), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        end.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(slow.run, "pets", work)
        await run_sync(begun.wait)
        async with anyio.create_task_group() as others:
            for _ in range(MOST_OF_A_TEAM - 1):
                others.start_soon(slow.run, "pets", work)
            await anyio.wait_all_tasks_blocked()
            assert slow.refusal("pets")
            others.cancel_scope.cancel()
        assert slow.refusal("pets") is None
        end.set()
    assert await slow.run("pets", lambda: "done") == "done"


def test_those_that_are_given_up_while_they_wait_leave_their_places() -> None:
    anyio.run(given_up)


def test_an_error_of_the_work_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        anyio.run(SlowWork("plans").run, "pets", lambda: 1 // 0)


def test_the_server_tells_that_it_lives_while_all_threads_work() -> None:
    app = machine_app()

    async def ask() -> httpx2.Response:
        threads = current_default_thread_limiter()
        for number in range(int(threads.total_tokens)):
            threads.acquire_on_behalf_of_nowait(number)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://api") as client:
            with anyio.fail_after(60):
                return await client.get("/health")

    assert anyio.run(ask).json() == {"status": "ok"}
