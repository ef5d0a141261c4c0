"""Slow work: a few at once, a few that wait, and no more."""

import threading

import anyio
import httpx2
import pytest
from anyio.to_thread import current_default_thread_limiter, run_sync

from api.openai_errors import ApiError
from api.server.slow_work import AT_ONCE, MOST_WAITING, SlowWork
from tests.support.api_server import machine_app


async def until(count: int, there_is: list[int]) -> None:
    while len(there_is) < count:
        await anyio.sleep(0.01)


async def many() -> None:
    slow, end, begun = SlowWork("plans"), threading.Event(), list[int]()

    def work(number: int) -> int:
        begun.append(number)
        end.wait()
        return number

    done: list[int] = []

    async def one(number: int) -> None:
        done.append(await slow.run(work, number))

    async with anyio.create_task_group() as group:
        for number in range(AT_ONCE + MOST_WAITING):
            assert slow.refusal() is None
            group.start_soon(one, number)
            await anyio.wait_all_tasks_blocked()
        await until(AT_ONCE, begun)
        with pytest.raises(ApiError, match=r"^16 plans are already waiting; try again in 30 seconds$") as refused:
            await slow.run(work, 100)
        assert (refused.value.status, refused.value.wait_seconds) == (503, 30)
        assert len(begun) == AT_ONCE
        assert await run_sync(lambda: "other work goes on") == "other work goes on"
        end.set()
    assert sorted(done) == list(range(AT_ONCE + MOST_WAITING))
    assert slow.refusal() is None


def test_a_few_work_at_once_a_few_wait_and_the_others_are_sent_away() -> None:
    anyio.run(many)


def test_an_error_of_the_work_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        anyio.run(SlowWork("plans").run, lambda: 1 // 0)


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
