"""Serves the API until it is told to stop."""

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import uvicorn
from sqlalchemy.orm import Session, sessionmaker

from api.api_settings import ApiSettings, api_settings
from api.database.engine import open_database
from api.server.application import create_app
from api.server.services import Services
from steps.common.runtime.cluster_settings import in_cluster
from steps.common.runtime.errors import UserError

GRACE_SECONDS = 30  # to finish open answers when the server is told to stop
WAITING_CONNECTIONS = 2048
KEEP_SECONDS = 3600.0  # between searches for ended jobs that nobody has read; Argo keeps them for days
COPY_SECONDS = 300.0  # between copies of a database that has changed


def serve(host: str = "", port: int | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C, then refuse new connections, finish open answers, and return the exit code.

    Args:
        host: address to listen on; empty: from the settings.
        port: port to listen on; 0: any free port; None: from the settings.

    Raises:
        UserError: a setting is wrong, the database cannot be opened, or the port is taken.
    """
    settings = api_settings()
    settings = replace(settings, host=host or settings.host, port=settings.port if port is None else port)
    if in_cluster():
        from api.cluster.database_copy import begin_with_copy

        begin_with_copy(settings.database)
    sessions = open_database(settings.database)
    with _listening(settings) as listener, _services(sessions, settings) as services:
        server = uvicorn.Server(
            uvicorn.Config(create_app(services, settings), timeout_graceful_shutdown=GRACE_SECONDS, server_header=False)
        )
        print(f"serving on http://{_shown(listener)}/v1; stop with Ctrl-C", flush=True)
        # uvicorn raises the signal again after it has stopped, and the command treats SIGTERM like Ctrl-C.
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    return 0


@contextlib.contextmanager
def _listening(settings: ApiSettings) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(
            f"cannot listen on {settings.host}: {error.strerror or error}; choose another --host"
        ) from error
    with listener:
        # Otherwise the connections of a server that has just stopped would block the port for a minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(WAITING_CONNECTIONS)
        except OSError as error:
            raise UserError(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}; choose another --port"
            ) from error
        yield listener


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def _services(sessions: sessionmaker[Session], settings: ApiSettings) -> Iterator[Services]:
    """Yield the services of a cluster or of this machine."""
    from api.files.file_contents import FileContents

    contents = FileContents(settings.max_upload_bytes)
    if in_cluster():
        from api.cluster.cluster_addresses import ClusterAddresses
        from api.cluster.cluster_jobs import ClusterJobs
        from api.cluster.database_copy import keep_copy
        from api.cluster.pod_process import prepare_process
        from api.cluster.repeated_work import RepeatedWork
        from api.files.bucket_contents import STORE_SETTING, BucketContents

        prepare_process()
        if store := os.environ.get(STORE_SETTING, "").strip():
            contents = BucketContents(store, settings.max_upload_bytes)
        jobs = ClusterJobs()
        copying = partial(keep_copy, settings.database)
        with RepeatedWork(jobs.keep_ended, KEEP_SECONDS), RepeatedWork(copying, COPY_SECONDS):
            yield Services(sessions, contents, jobs, ClusterAddresses())
        return
    from api.machine.job_queue import JobQueue
    from api.machine.machine_addresses import MachineAddresses
    from api.machine.machine_jobs import MachineJobs

    with JobQueue() as queue:
        yield Services(sessions, contents, MachineJobs(queue.wake), MachineAddresses())
