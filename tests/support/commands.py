"""Run the `fineline` command as a process, as its users do."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

COMMAND = [sys.executable, "-m", "pipelines.command"]


def fineline(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command and wait for it to end."""
    settings = {**os.environ, **(environment or {})}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env=settings, timeout=1800, check=False
    )


def begin(*arguments: str) -> subprocess.Popen[str]:
    """Start the command in its own process group."""
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Parse the output of `--json`."""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_recipe(folder: Path, **parts: Any) -> str:
    """Write a recipe and return its path."""
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(parts))
    return str(file)


def tiny_recipe(folder: Path, model: Path, chats: Path, **tune: Any) -> str:
    """Write a recipe for the tiny model that ends with a registered version."""
    settings = {"learning_rate": 0.01, "batch_tokens": 128, "checkpoint_every": 2, "method": "lora", **tune}
    return write_recipe(
        folder,
        name="tiny",
        model=model.as_uri(),
        data={"train": str(chats), "max_tokens": 64},
        tune=settings,
        evaluate={"sample_rows": 1, "answer_tokens": 8, "general": False},
        gate={"better_than_base": 0.0},
        serve={"enabled": False},
    )


def wait_for(what: Callable[[], Any], seconds: float = 600) -> Any:
    """Call `what` until it returns something true, and return that.

    Args:
        what: is called.
        seconds: how long at most. A loaded machine is slow, and only a failing test waits so long: at least a minute.
    """
    assert seconds >= 60, f"{seconds:g} s are too few on a loaded machine"
    end = time.monotonic() + seconds
    while (asked := time.monotonic()) < end:
        if found := what():
            return found
        # A slow check, such as kubectl, must not take the processor from the thing it waits for.
        time.sleep(max(0.02, 2 * (time.monotonic() - asked)))
    raise AssertionError(f"nothing after {seconds:.0f} s")


def happens(what: Callable[[], Any], seconds: float = 20) -> bool:
    """Return whether `what` returns something true in time. For what the cluster of the tests may not have at all."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(1)
    return False


def step_process(driver: subprocess.Popen[str], entrypoint: str) -> psutil.Process | None:
    """Return the process of a step that the command started."""
    for child in psutil.Process(driver.pid).children(recursive=True):
        try:
            if any(entrypoint in part for part in child.cmdline()):
                return child
        except psutil.NoSuchProcess:
            continue
    return None


def kill_when(driver: subprocess.Popen[str], entrypoint: str, ready: Callable[[], Any]) -> None:
    """Kill a step with SIGKILL as soon as `ready` returns something true."""
    wait_for(lambda: ready() or driver.poll() is not None)
    assert driver.returncode is None, driver.communicate()[1]
    process = step_process(driver, entrypoint)
    assert process is not None
    process.send_signal(signal.SIGKILL)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
