"""The state of the models that this machine serves: gateways, model servers, refused versions."""

import shutil
from pathlib import Path
from typing import Any, TypeVar

import psutil

from steps.common.handover.resolved import ResolvedChat
from steps.common.storage import volumes
from steps.common.storage.files import write_text
from steps.common.storage.record import Record

GATEWAY, SERVER, PREVIOUS, REFUSED = "gateway.json", "server.json", "previous.json", "refused.json"
TRIAL = "trial.json"  # the server that a rollout has given the traffic, until its version is champion
STARTED = "process.json"  # in the folder of a version's server
PORT = "port"  # the gateway's last one, which outlives the gateway
EVERY_ADDRESS = "0.0.0.0"

State = TypeVar("State", bound=Record)


class Process(Record):
    """A process that outlives the run. Its start time tells it from a later process with the same pid."""

    pid: int
    started: float
    port: int

    def alive(self) -> bool:
        """Return whether the process is running."""
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """Return the process, or None if it has ended."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def stop(self, seconds: float = 10) -> None:
        """Terminate the process and its children; kill them after so many seconds."""
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


class Gateway(Record):
    """The process that listens at the model's address and forwards requests to the model server."""

    name: str
    host: str
    folder: str  # holds its configuration
    admin: str  # Unix socket of its admin interface
    process: Process

    @property
    def url(self) -> str:
        """The base URL of the OpenAI API."""
        return base_url(self.host, self.process.port)

    def remove_files(self) -> None:
        """Delete the configuration and the socket of a gateway that has ended."""
        for folder in (Path(self.admin).parent, Path(self.folder)):
            shutil.rmtree(folder, ignore_errors=True)


class Server(Record):
    """The model server that the gateway forwards requests to."""

    name: str
    version: int
    run: str
    base: str
    base_digest: str = ""  # empty: written by 0.1.0
    adapter_sha256: str
    folder: str
    process: Process
    chat: ResolvedChat = ResolvedChat()  # how the model is asked

    def has(self, adapter_sha256: str, base: str, base_digest: str) -> bool:
        """Return whether it serves this adapter on this base. Numbers do not tell: they start over with a new registry."""
        same_base = self.base_digest == base_digest if self.base_digest else self.base == base
        return same_base and self.adapter_sha256 == adapter_sha256


class RefusedVersion(Record):
    """A version that a rollout has refused."""

    name: str
    version: int
    reason: str
    folder: str  # holds its log and its command


def server_folder(name: str, version: int, adapter_sha256: str) -> Path:
    """Return the folder of a model server: its working directory with its log and its command."""
    return volumes.serving(name) / f"version-{version}-{adapter_sha256[:8]}"


def base_url(host: str, port: int) -> str:
    """Return the base URL of an OpenAI API at that address."""
    return f"http://{'127.0.0.1' if host == EVERY_ADDRESS else host}:{port}/v1"


def gateway(name: str) -> Gateway | None:
    """Return the running gateway of the model `name`."""
    found = _read(Gateway, volumes.serving(name) / GATEWAY)
    return found if found and found.process.alive() else None


def last_port(name: str) -> int | None:
    """Return the port on which the gateway of the model `name` last listened."""
    try:
        return int((volumes.serving(name) / PORT).read_text())
    except (FileNotFoundError, ValueError):
        return None


def server(name: str) -> Server | None:
    """Return the running server behind the gateway of the model `name`."""
    return _running(name, SERVER)


def last_server(name: str) -> Server | None:
    """Return the server behind the gateway of the model `name`, running or not."""
    return _read(Server, volumes.serving(name) / SERVER)


def previous(name: str) -> Server | None:
    """Return the server of the previous version if it was left running."""
    return _running(name, PREVIOUS)


def _running(name: str, file: str) -> Server | None:
    found = _read(Server, volumes.serving(name) / file)
    return found if found and found.process.alive() else None


def refused(name: str) -> RefusedVersion | None:
    """Return the state of the version that was refused last."""
    return _read(RefusedVersion, volumes.serving(name) / REFUSED)


def names() -> list[str]:
    """Return the models that are, or were, served on this machine."""
    folder = volumes.runs() / "serving"
    return sorted({file.parent.name for what in (GATEWAY, REFUSED) for file in folder.glob(f"*/{what}")})


def remember(state: Gateway | Server) -> None:
    """Save the state of what serves now."""
    _write(state, GATEWAY if isinstance(state, Gateway) else SERVER)
    if isinstance(state, Gateway):
        write_text(volumes.serving(state.name) / PORT, f"{state.process.port}\n")


def remember_previous(state: Server) -> None:
    """Save the state of the previous version's server, which is left running."""
    _write(state, PREVIOUS)


def remember_trial(state: Server) -> None:
    """Save the state of a server that has the traffic, and whose version is not champion yet."""
    _write(state, TRIAL)


def forget_trial(name: str) -> None:
    """Delete the state of the server on trial."""
    (volumes.serving(name) / TRIAL).unlink(missing_ok=True)


def end_trial(name: str, champion: int) -> Server | None:
    """Decide about the server on trial of an interrupted rollout: if its version is champion, it is what serves now.

    Returns:
        The server that was on trial, which has the traffic if it still runs; None if none was, or it has ended.
    """
    tried = _running(name, TRIAL)
    if tried and tried.version == champion:
        remember(tried)
    forget_trial(name)
    return tried


def started(name: str, but: Path) -> list[Process]:
    """Return the running model servers of the model `name`, except the one whose folder is `but`."""
    files = [file for file in volumes.serving(name).glob(f"*/{STARTED}") if file.parent != but]
    found = [Process.read(file.read_text(), file) for file in files]
    return [process for process in found if process.alive()]


def remember_refused(state: RefusedVersion) -> None:
    """Save the state of a refused version."""
    _write(state, REFUSED)


def forget_gateway(name: str) -> None:
    """Delete the state and the files of a gateway that has ended."""
    if state := _read(Gateway, volumes.serving(name) / GATEWAY):
        state.remove_files()
    (volumes.serving(name) / GATEWAY).unlink(missing_ok=True)


def forget_previous(name: str) -> None:
    """Delete the state of the previous version's server."""
    (volumes.serving(name) / PREVIOUS).unlink(missing_ok=True)


def forget_refused(name: str) -> bool:
    """Delete the state and the files of the version that was refused last; return whether there was one."""
    kept = refused(name)
    if kept is None:
        return False
    live = server(name)
    if live is None or Path(kept.folder) != server_folder(name, live.version, live.adapter_sha256):
        shutil.rmtree(kept.folder, ignore_errors=True)
    (volumes.serving(name) / REFUSED).unlink(missing_ok=True)
    return True


def stop(name: str) -> bool:
    """Stop the gateway and the servers of the model `name`; return whether any was running."""
    folder = volumes.serving(name)
    running = [state.process for state in (gateway(name), server(name), previous(name)) if state]
    # Including servers whose rollout was killed.
    running += [process for process in started(name, but=folder) if process not in running]
    for process in running:
        process.stop()
    (folder / SERVER).unlink(missing_ok=True)
    forget_trial(name)
    forget_previous(name)
    forget_gateway(name)
    return bool(running)


def _write(state: Gateway | Server | RefusedVersion, file: str) -> None:
    write_text(volumes.serving(state.name) / file, state.model_dump_json(indent=2) + "\n")


def _read(kind: type[State], path: Path) -> State | None:
    try:
        return kind.read(path.read_text(), path)
    except FileNotFoundError:
        return None
