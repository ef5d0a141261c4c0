"""What the display prints where there is no terminal, on a clock that the test moves, and what it draws where there is one."""

import io

import pytest
from rich.console import Console

from pipelines.shown.display import Display
from pipelines.shown.task_state import REUSED, Phase, TaskState
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def running(seconds: float, message: str = "") -> TaskState:
    return TaskState(phase=Phase.RUNNING, seconds=seconds, message=message)


def shown(clock: Clock, terminal: bool = False) -> tuple[Display, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, highlight=False)
    return Display("run a", ["plan", "tune"], console, clock), text


def test_a_task_that_goes_on_is_a_line_every_half_minute_and_no_two_are_the_same(clock: Clock) -> None:
    display, text = shown(clock)
    with display:
        for second in range(100):
            display.update("tune", running(second), f"{second}/100 steps")
            clock.now += 1
    assert text.getvalue().splitlines() == [
        "run a",
        "tune       running, 0/100 steps",
        "tune       running 30s, 30/100 steps",
        "tune       running 1m00s, 60/100 steps",
        "tune       running 1m30s, 90/100 steps",
    ]


def test_a_change_of_phase_or_message_is_a_line_at_once(clock: Clock) -> None:
    display, text = shown(clock)
    pending = TaskState(phase=Phase.PENDING)
    states = [
        pending,
        pending,
        TaskState(phase=Phase.PENDING, seconds=5, message="no image"),
        TaskState(phase=Phase.PENDING, seconds=6, message="no image"),
        TaskState(phase=Phase.PENDING, seconds=7, message="no node"),
        running(1),
        TaskState(phase=Phase.FAILED, seconds=9, message="no space left"),
        TaskState(phase=Phase.FAILED, seconds=9, message="no space left"),
    ]
    with display:
        for state in states:
            display.update("tune", state, "")
            clock.now += 1
        display.update("plan", TaskState(phase=Phase.SUCCEEDED, seconds=40, message=REUSED), "")
        clock.now += 1000
        display.update("plan", TaskState(phase=Phase.SUCCEEDED, seconds=40, message=REUSED), "")
    assert text.getvalue().splitlines() == [
        "run a",
        "tune       pending for 5s: no image",
        "tune       pending for 7s: no node",
        "tune       running 1s",
        "tune       failed in 9s: no space left",
        "plan       succeeded: already done",
    ]


def test_what_keeps_a_task_waiting_is_repeated_every_half_minute(clock: Clock) -> None:
    display, text = shown(clock)
    with display:
        for second in range(61):
            display.update("tune", TaskState(phase=Phase.PENDING, seconds=second, message="no node"), "")
            clock.now += 1
    assert text.getvalue().splitlines()[1:] == [
        "tune       pending: no node",
        "tune       pending for 30s: no node",
        "tune       pending for 1m00s: no node",
    ]


def test_a_note_is_a_line_at_once_and_every_minute_until_it_is_taken_back(clock: Clock) -> None:
    display, text = shown(clock)
    with display:
        for second in range(200):
            display.note("" if second < 10 or second > 180 else "nobody takes it up")
            clock.now += 1
    assert text.getvalue().splitlines() == ["run a", *["nobody takes it up"] * 3]


def test_in_a_terminal_the_table_has_tasks_reasons_and_the_note(clock: Clock) -> None:
    display, text = shown(clock, terminal=True)
    with display:
        display.update("plan", TaskState(phase=Phase.SUCCEEDED, seconds=2), "")
        display.update("tune", TaskState(phase=Phase.PENDING, message="[Errno 28] " + "no image " * 20 + "at all"), "")
        display.note("nobody takes it up")
    drawn = text.getvalue()
    assert "✔" in drawn
    assert "[Errno 28] no image" in drawn
    assert "at all" in drawn
    assert "nobody takes it up" in drawn
