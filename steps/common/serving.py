"""What serves a model on this machine: read by plan, which must know whose port it is, and by rollout."""

import json
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel

from steps.common import volumes
from steps.common.files import write_text

GATEWAY = "gateway.json"
SERVER = "server.json"
EVERY_ADDRESS = "0.0.0.0"


class Process(BaseModel):
    """A process that outlives the run, told from another one with the same number by its start time."""

    pid: int
    started: float
    port: int

    def alive(self) -> bool:
        """Tell whether it still runs."""
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """Return it while it runs, else None."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def stop(self, seconds: float = 10) -> None:
        """End it, at first politely."""
        process = self.process()
        if process is None:
            return
        family = [process, *process.children(recursive=True)]
        for member in family:
            _quietly(member.terminate)
        _, left = psutil.wait_procs(family, timeout=seconds)
        for member in left:
            _quietly(member.kill)
        psutil.wait_procs(left, timeout=5)


def _quietly(action: Any) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return


class Gateway(BaseModel):
    """What listens at the model's address and passes requests on to the server behind it."""

    name: str
    host: str
    process: Process

    @property
    def url(self) -> str:
        """The base URL of the OpenAI API."""
        return f"http://{'127.0.0.1' if self.host == EVERY_ADDRESS else self.host}:{self.process.port}/v1"


class Server(BaseModel):
    """The model server that the gateway passes requests on to."""

    name: str
    version: int
    run: str
    base: str
    adapter_sha256: str
    folder: str
    process: Process


def gateway(name: str) -> Gateway | None:
    """Return the running gateway of the model `name`."""
    state = _read(volumes.serving(name) / GATEWAY)
    found = Gateway.model_validate(state) if state else None
    return found if found and found.process.alive() else None


def server(name: str) -> Server | None:
    """Return the running server that the gateway of the model `name` points at."""
    state = _read(volumes.serving(name) / SERVER)
    found = Server.model_validate(state) if state else None
    return found if found and found.process.alive() else None


def names() -> list[str]:
    """Return the models that were served here, running or not."""
    return sorted(file.parent.name for file in (volumes.runs() / "serving").glob(f"*/{GATEWAY}"))


def remember(state: Gateway | Server) -> None:
    """Write down what now serves; the gateway reads the server's file at each request."""
    file = GATEWAY if isinstance(state, Gateway) else SERVER
    write_text(volumes.serving(state.name) / file, state.model_dump_json(indent=2) + "\n")


def forget_server(name: str) -> None:
    """Take down what was written of the server; the gateway answers 503 from then on."""
    (volumes.serving(name) / SERVER).unlink(missing_ok=True)


def stop(name: str) -> bool:
    """Stop gateway and server of the model `name`; tell whether any was running."""
    running = [state.process for state in (gateway(name), server(name)) if state]
    for process in running:
        process.stop()
    forget_server(name)
    (volumes.serving(name) / GATEWAY).unlink(missing_ok=True)
    return bool(running)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return state
