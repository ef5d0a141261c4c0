"""Starts the two processes that outlive a run: the model server of a version and the gateway of a model."""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import psutil

from steps.common.handover.resolved import ResolvedChat
from steps.common.machine import servers
from steps.common.machine.devices import compute_dtype, local_device
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import RefusedError
from steps.common.runtime.secret import SECRETS
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.storage.files import write_text
from steps.common.web.web_client import local_client
from steps.rollout.gateway.envoy import VERSION_HEADER
from steps.rollout.gateway.gateway import SOCKET, command, write_all
from steps.rollout.gateway.upstream import Rules, Upstream
from steps.rollout.server import serve_model

GATEWAY_SECONDS = 30
POLL_SECONDS = 0.2
COMMAND = "command.txt"


def server_command(name: str, port: int) -> list[str]:
    """Return the command of a model server that answers only to `name`, which is a folder in its working directory."""
    return [sys.executable, *serve_model.arguments(name, port, compute_dtype(local_device().kind))]


def start_server(name: str, merged: Path, folder: Path, ready_seconds: int, chat: ResolvedChat) -> servers.Process:
    """Start a server of a merged model and wait until it is ready.

    A symlink in `folder` gives the model's folder the name that the server answers to.

    Args:
        name: name of the model.
        merged: folder of the merged model.
        folder: working directory of the server, for its log and its command.
        ready_seconds: longest wait.
        chat: how the model is asked.

    Raises:
        RefusedError: the server ended, or was not ready in time and has been stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _stop_orphan(folder)
    link = folder / name
    link.unlink(missing_ok=True)
    link.symlink_to(merged)
    port = _free_port()
    serve = [*server_command(name, port), *serve_model.chat_options(chat)]
    write_text(folder / COMMAND, shlex.join(serve) + "\n")
    process = _start(serve, folder / "server.log", folder, port)
    write_text(folder / servers.STARTED, process.model_dump_json())
    health = f"http://127.0.0.1:{port}/health"
    _wait(process, lambda: _answers(health), ready_seconds, folder / "server.log", "model server")
    return process


def start_gateway(rules: Rules, api_keys: list[str], upstreams: list[Upstream], live: Upstream) -> servers.Gateway:
    """Start a model's gateway, wait until it serves, and save its state.

    Args:
        rules: where it listens and what it lets through.
        api_keys: requests have to send one of them as a bearer token; empty: none.
        upstreams: all servers that it knows.
        live: the server that gets the requests.

    Raises:
        RefusedError: it cannot listen at that address.
    """
    # A folder for each address: during a change of address two gateways run, each with its own files.
    folder = volumes.serving(rules.name) / f"gateway-{rules.port}"
    # In a temporary folder, since the path of a Unix socket is limited to 107 bytes.
    admin = Path(tempfile.mkdtemp(prefix="fineline-")) / SOCKET
    write_all(folder, admin, rules, api_keys, upstreams, live)
    log = folder / "gateway.log"
    log.unlink(missing_ok=True)
    process = _start(command(folder), log, folder, rules.port)
    listens = f"{servers.base_url(rules.host, rules.port)}/models"
    _wait(process, lambda: _version(listens) == str(live.version), GATEWAY_SECONDS, log, "gateway")
    started = servers.Gateway(name=rules.name, host=rules.host, folder=str(folder), admin=str(admin), process=process)
    servers.remember(started)
    return started


def _stop_orphan(folder: Path) -> None:
    """Stop the server that a killed attempt has left running."""
    if (folder / servers.STARTED).exists():
        servers.Process.read((folder / servers.STARTED).read_text(), folder / servers.STARTED).stop()


def _start(command: list[str], log: Path, folder: Path, port: int) -> servers.Process:
    # PYTHONSAFEPATH: a folder of the user's that has the name of one of our packages must not be imported instead.
    settings = {"PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    # Neither server needs a secret from its environment, and both outlive this process.
    dropped = ("hera__", "ARGO_", *SECRETS)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
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
    return servers.Process(pid=process.pid, started=psutil.Process(process.pid).create_time(), port=port)


def _wait(process: servers.Process, ready: Callable[[], bool], seconds: int, log: Path, who: str) -> None:
    line = WaitingLine()
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if not process.alive():
            raise RefusedError(f"the {who} ended while starting: {_last_line(log)} (log: {log})")
        if ready():
            return
        line.report(f"the {who}", f"up to {seconds} s")
        time.sleep(POLL_SECONDS)
    process.stop()
    raise RefusedError(f"the {who} was not ready in {seconds} s: {_last_line(log)} (log: {log})")


def _answers(url: str) -> bool:
    try:
        with local_client(timeout=5) as client:
            return bool(client.get(url).status_code == 200)
    except httpx2.HTTPError:
        return False


def _version(url: str) -> str:
    """Return the version that the gateway reports; empty if none listens."""
    try:
        with local_client(headers=cluster_settings.api_key_header(), timeout=5) as client:
            return str(client.get(url).headers.get(VERSION_HEADER, ""))
    except httpx2.HTTPError:
        return ""


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "its log is empty"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
