"""Serves a version by two processes of this machine: a model server, and the gateway whose address stays."""

import json
import time
from functools import cached_property
from pathlib import Path
from typing import Any

from steps.common.handover.resolved import Resolved
from steps.common.machine import servers
from steps.common.machine.devices import compute_dtype, local_device, memory_available
from steps.common.runtime import cluster_settings
from steps.common.runtime.progress import say
from steps.common.storage import volumes
from steps.common.storage.files import write_private_json
from steps.rollout.checks import server_needs
from steps.rollout.checks.read_speed import read_speed
from steps.rollout.gateway import gateway as gateways
from steps.rollout.gateway.admin import Admin
from steps.rollout.gateway.envoy import CLUSTERS, LISTENERS, ROUTES
from steps.rollout.gateway.traffic import Traffic, read
from steps.rollout.gateway.upstream import Rules, Upstream
from steps.rollout.places.processes import start_gateway, start_server

LONGEST_END_SECONDS = 30


class MachinePlace:
    """This machine as the place of a rollout."""

    def __init__(self, resolved: Resolved, version: int, model: Path, model_bytes: int, digest: str) -> None:
        """Look at what serves now.

        Args:
            resolved: the recipe, and what it was resolved to.
            version: the registered version.
            model: folder of the merged model.
            model_bytes: that the server has to read.
            digest: hash of the adapter's weights.
        """
        self._resolved, self._serve = resolved, resolved.recipe.serve
        self._name, self._version, self._model, self._digest = resolved.recipe.name, version, model, digest
        self._ready_seconds = server_needs.ready_seconds(
            model_bytes, read_speed(model), wanted=self._serve.ready_seconds
        )
        running = servers.gateway(self._name)
        # One that has ended behind its gateway was stopped by a rollout in place that was killed: it comes back where this
        # one fails.
        self._old = servers.last_server(self._name) if running else servers.server(self._name)
        self._new: servers.Server | None = None
        self._started_gateway: servers.Gateway | None = None
        self._left_gateway: servers.Gateway | None = None
        self._listeners_before: Any = None
        if running and self._old:
            self._point(running, [self._old], self._old)  # an attempt that was killed may have moved the traffic

    @property
    def url(self) -> str:
        """The gateway's base URL."""
        return servers.base_url(self._serve.host, self._serve.port)

    @property
    def new_url(self) -> str:
        """The new server's own base URL."""
        return _own_url(self._started)

    @property
    def old_url(self) -> str | None:
        """The old server's own base URL."""
        return _own_url(self._old) if self._old else None

    @property
    def old_version(self) -> int | None:
        """What serves now."""
        return self._old.version if self._old else None

    def serves_already(self) -> bool:
        """Tell whether the version is what serves; then its gateway is made as the recipe says."""
        old = self._old
        if old is None or not old.process.alive():
            return False
        if (old.adapter_sha256, old.base) != (self._digest, self._resolved.model.uri):
            return False
        self._new = old
        self.move()
        self._leave_gateway()
        return True

    def why_not_both(self) -> str:
        """Return why the new server does not fit into the memory beside the old one."""
        wanted = server_needs.memory_bytes(
            self._resolved.model.architecture.parameters, compute_dtype(local_device().kind)
        )
        free = memory_available()
        return (
            "" if wanted <= free else f"{free / 2**30:.1f} GiB are free, and the new server takes {wanted / 2**30:.1f}"
        )

    def stop_old(self) -> None:
        """End the old server."""
        if self._old:
            self._old.process.stop(LONGEST_END_SECONDS)

    def start_old(self) -> bool:
        """Start the old server again where it has ended."""
        if self._old is None or self._old.process.alive():
            return False
        self._end_new()
        folder = self._folder(self._old.version)
        process = start_server(self._name, Path(self._old.folder), folder, self._ready_seconds)
        self._old = self._old.model_copy(update={"process": process})
        servers.remember(self._old)
        return True

    def start(self) -> None:
        """Start the new server and wait until it is ready."""
        servers.forget_refused(self._name)
        previous = servers.previous(self._name)
        if previous and (previous.adapter_sha256, previous.base) == (self._digest, self._resolved.model.uri):
            say(f"version {previous.version} still runs")
            self._new = previous
            return
        if previous:
            previous.process.stop(LONGEST_END_SECONDS)
        process = start_server(self._name, self._model, self._folder(self._version), self._ready_seconds)
        self._new = servers.Server(
            name=self._name,
            version=self._version,
            run=self._resolved.run,
            base=self._resolved.model.uri,
            adapter_sha256=self._digest,
            folder=str(self._model),
            process=process,
        )

    def move(self) -> None:
        """Point the gateway at the new server; where none listens at the recipe's address, start it."""
        new, known = self._started, [server for server in (self._old, self._new) if server]
        running = servers.gateway(self._name)
        if running and (running.host, running.process.port) == (self._serve.host, self._serve.port):
            self._listeners_before = json.loads((Path(running.folder) / LISTENERS).read_text())
            wanted = gateways.write_listeners(Path(running.folder), self._rules, cluster_settings.api_key())
            gateways.wait_applied(Admin(Path(running.admin)), LISTENERS, wanted)
            self._point(running, known, new)
            return
        self._left_gateway = running
        upstreams = [_upstream(server) for server in known]
        self._started_gateway = start_gateway(self._rules, upstreams, _upstream(new))

    def move_back(self) -> None:
        """Point the gateway at the old server; where there was none, stop it."""
        if self._started_gateway:
            self._started_gateway.process.stop()
            self._started_gateway = None
            servers.forget_gateway(self._name)
            if self._left_gateway:
                servers.remember(self._left_gateway)
        running = servers.gateway(self._name)
        if running and self._old:
            known = [server for server in (self._old, self._new) if server and server.process.alive()]
            self._point(running, known, self._old)
            if self._listeners_before:
                write_private_json(Path(running.folder) / LISTENERS, self._listeners_before)

    def traffic(self, *, new: bool) -> Traffic | None:
        """Return what the gateway has counted of a server."""
        running, server = servers.gateway(self._name), self._new if new else self._old
        if not running or not server:
            return None
        return read(Admin(Path(running.admin)).statistics(), _upstream(server).cluster)

    def keep_for_a_look(self, reason: str) -> None:
        """End the new server, and keep its log and its command with the reason."""
        self._end_new()
        folder = self._folder(self._version)
        if folder.is_dir():
            kept = servers.Refused(name=self._name, version=self._version, reason=reason, folder=str(folder))
            servers.remember_refused(kept)
            say(f"its log and its command are kept in {folder}")

    def finish(self) -> None:
        """Write down what serves now, and end the old server when its last answer is given."""
        new, running = self._started, servers.gateway(self._name)
        servers.remember(new)
        servers.forget_previous(self._name)
        self._leave_gateway()
        if self._old and running:
            self._wait_idle(running, self._old)
            self._point(running, [new], new)
            if self._serve.keep_previous == "running":
                servers.remember_previous(self._old)
            else:
                self._old.process.stop(LONGEST_END_SECONDS)
                say(f"version {self._old.version} is stopped")

    @property
    def _started(self) -> servers.Server:
        if self._new is None:
            raise RuntimeError("the new server has not been started")
        return self._new

    @cached_property
    def _rules(self) -> Rules:
        return Rules(
            name=self._name,
            host=self._serve.host,
            port=self._serve.port,
            answer_seconds=self._serve.answer_seconds,
            request_bytes=int(self._serve.max_request_mib * 2**20),
            requests_per_minute=self._serve.requests_per_minute,
        )

    def _point(self, running: servers.Gateway, known: list[servers.Server], live: servers.Server) -> None:
        """Let the gateway know these servers and pass requests on to one: between two requests, and without an error."""
        folder, admin = Path(running.folder), Admin(Path(running.admin))
        # A server has to be known before requests go to it, and until none does.
        upstreams = {one.cluster: one for one in map(_upstream, (*known, live))}
        wanted = gateways.write_clusters(folder, Path(running.admin), [*upstreams.values()])
        gateways.wait_applied(admin, CLUSTERS, wanted)
        gateways.wait_applied(admin, ROUTES, gateways.write_routes(folder, self._rules, _upstream(live)))

    def _wait_idle(self, running: servers.Gateway, server: servers.Server) -> None:
        admin, counted = Admin(Path(running.admin)), f"cluster.{_upstream(server).cluster}.upstream_rq_active"
        end = time.monotonic() + self._serve.answer_seconds
        while server.process.alive() and admin.under_way(counted) and time.monotonic() < end:
            time.sleep(0.2)

    def _leave_gateway(self) -> None:
        """End the gateway at the address that the recipe no longer has."""
        if self._left_gateway:
            self._left_gateway.process.stop()
            self._left_gateway.remove_files()
            self._left_gateway = None

    def _end_new(self) -> None:
        if self._new:
            self._new.process.stop(LONGEST_END_SECONDS)

    def _folder(self, version: int) -> Path:
        return volumes.serving(self._name) / f"version-{version}"


def _own_url(server: servers.Server) -> str:
    return servers.base_url("127.0.0.1", server.process.port)


def _upstream(server: servers.Server) -> Upstream:
    same = server.model_dump(include={"version", "run", "base", "adapter_sha256"})
    return Upstream(port=server.process.port, started=server.process.started, **same)
