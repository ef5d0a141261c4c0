"""Waiting for a process that a rollout starts."""

import os
import time
from pathlib import Path

import psutil

from steps.common.machine.servers import Process
from steps.rollout.places import processes


def test_a_process_is_not_polled_without_a_pause(tmp_path: Path) -> None:
    here = Process(pid=os.getpid(), started=psutil.Process().create_time(), port=1)
    polls: list[float] = []

    def ready() -> bool:
        polls.append(time.monotonic())
        return len(polls) == 3

    processes._wait(here, ready, 60, tmp_path / "log", "model server")
    assert polls[-1] - polls[0] >= 2 * processes.POLL_SECONDS
