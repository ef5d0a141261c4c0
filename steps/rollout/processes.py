"""Starts the two processes that outlive a run: a version's model server, and the model's gateway."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import psutil

from steps.common import serving, volumes
from steps.common.devices import compute_type, local_device
from steps.common.errors import RefusedError
from steps.common.files import write_text
from steps.common.progress import Progress

GATEWAY_SECONDS = 60
STARTED = "process.json"


def start_server(name: str, merged: Path, folder: Path, ready_seconds: int) -> serving.Process:
    """Start `transformers serve` on a merged model and wait until it is ready.

    The server answers to the model's name: it stands in a folder where that name is the model's folder.

    Raises:
        RefusedError: it ended, or was not ready in time; it is stopped then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _stop_orphan(folder)
    link = folder / name
    link.unlink(missing_ok=True)
    link.symlink_to(merged)
    port = _free_port()
    serve = [
        str(Path(sys.executable).with_name("transformers")),
        "serve",
        name,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        compute_type(local_device().kind),
    ]
    process = _start(serve, folder / "server.log", folder, port)
    write_text(folder / STARTED, process.model_dump_json())
    _wait(process, f"http://127.0.0.1:{port}/health", ready_seconds, folder / "server.log", "model server")
    return process


def start_gateway(name: str, host: str, port: int) -> serving.Gateway:
    """Start the gateway of the model `name` and wait until it listens; remember it.

    Raises:
        RefusedError: it cannot listen at that address.
    """
    folder = volumes.serving(name)
    command = [sys.executable, "-m", "steps.rollout.gateway", name, host, str(port)]
    process = _start(command, folder / "gateway.log", folder, port)
    gateway = serving.Gateway(name=name, host=host, process=process)
    _wait(process, f"{gateway.url}/models", GATEWAY_SECONDS, folder / "gateway.log", "gateway")
    serving.remember(gateway)
    return gateway


def _stop_orphan(folder: Path) -> None:
    """Stop the server that an attempt killed before it was done has left running."""
    if (folder / STARTED).exists():
        serving.Process.model_validate_json((folder / STARTED).read_text()).stop()


def _start(command: list[str], log: Path, folder: Path, port: int) -> serving.Process:
    # PYTHONSAFEPATH: a folder of the user's named like one of our packages must not be imported instead.
    settings = {"PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("hera__", "ARGO_"))}
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=folder,
            env=kept | settings,
            start_new_session=True,
        )
    return serving.Process(pid=process.pid, started=psutil.Process(process.pid).create_time(), port=port)


def _wait(process: serving.Process, url: str, seconds: int, log: Path, who: str) -> None:
    progress = Progress(0, f"s, waiting for the {who}")
    started = time.monotonic()
    while (waited := time.monotonic() - started) < seconds:
        if not process.alive():
            raise RefusedError(f"the {who} ended while starting: {_last_line(log)} (log: {log})")
        try:
            if httpx2.get(url, timeout=5).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        progress.update(round(waited))
        time.sleep(0.5)
    process.stop()
    raise RefusedError(f"the {who} was not ready in {seconds} s: {_last_line(log)} (log: {log})")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "it printed nothing"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
