"""Serves a version on one machine by two processes: a model server, and the gateway that keeps its address."""

import json
import time
from pathlib import Path
from typing import Any

from steps.common.handover.installation import needs_api_key
from steps.common.handover.resolved import Resolved
from steps.common.machine import servers
from steps.common.machine.devices import compute_dtype, local_device, memory_available
from steps.common.runtime import cluster_settings
from steps.common.runtime.progress import say
from steps.common.storage.files import write_private_json
from steps.rollout.checks import server_needs
from steps.rollout.checks.read_speed import read_speed
from steps.rollout.gateway import gateway as gateways
from steps.rollout.gateway.admin import EnvoyAdmin
from steps.rollout.gateway.envoy import CLUSTERS, LISTENERS, ROUTES
from steps.rollout.gateway.traffic import Traffic, read
from steps.rollout.gateway.upstream import Rules, Upstream
from steps.rollout.lease.right import ServingLease
from steps.rollout.places.gateway_port import gateway_port
from steps.rollout.places.processes import start_gateway, start_server

LONGEST_END_SECONDS = 30


class MachinePlace:
    """This machine as the place of a rollout."""

    def __init__(
        self,
        resolved: Resolved,
        version: int,
        model: Path,
        model_bytes: int,
        digest: str,
        champion: int,
        lease: ServingLease,
    ) -> None:
        """Find what serves now, and put right what an interrupted rollout has left.

        Args:
            resolved: the resolved recipe.
            version: the registered version.
            model: folder of the merged model.
            model_bytes: size of the model's files.
            digest: hash of the adapter's weights.
            champion: the version that is champion; 0: none.
            lease: the model's serving lease, held.

        Raises:
            UserError: an API key is required and none is set.
        """
        self._lease = lease
        self._resolved, self._serve = resolved, resolved.recipe.serve
        self._name, self._version, self._model, self._digest = resolved.recipe.name, version, model, digest
        self._ready_seconds = server_needs.ready_seconds(
            model_bytes, read_speed(model), wanted=self._serve.ready_seconds
        )
        lease.check()
        before = servers.server(self._name)
        tried = servers.end_trial(self._name, champion)
        running = servers.gateway(self._name)
        # A server that has ended while its gateway runs was stopped by a rollout in place that was killed. It is started again
        # if this rollout fails.
        self._old = servers.last_server(self._name) if running else servers.server(self._name)
        self._new: servers.Server | None = None
        self._started_gateway: servers.Gateway | None = None
        self._replaced_gateway: servers.Gateway | None = None
        self._listeners_before: Any = None
        had_one = bool(running and _requires_key(Path(running.folder)))
        self._api_keys = cluster_settings.api_keys() if needs_api_key(resolved.recipe, had_one=had_one) else []
        if running and self._old:
            # A rollout that was killed, or that this rollback takes over from, may have switched the traffic.
            self._take_traffic(running, self._old, [one for one in (before, tried) if one])
        self._stop_orphans()

    @property
    def url(self) -> str:
        """The gateway's base URL. Until `switch_traffic` its port may not have been chosen."""
        running = servers.gateway(self._name)
        if running is None:
            raise RuntimeError("the gateway has not been started")
        return running.url

    @property
    def new_url(self) -> str:
        """The new server's own base URL."""
        return _own_url(self._started)

    @property
    def old_url(self) -> str | None:
        """The old server's own base URL; None if there is none."""
        return _own_url(self._old) if self._old else None

    @property
    def old_version(self) -> int | None:
        """The version that serves now; None if none does."""
        return self._old.version if self._old else None

    def serves_already(self) -> bool:
        """Return whether the version already serves; if so, apply the recipe's settings to its gateway."""
        old = self._old
        if old is None or not old.process.alive():
            return False
        if not self._is_candidate(old):
            return False
        self._new = self._numbered(old)
        self.switch_traffic()
        servers.remember(self._new)
        servers.forget_trial(self._name)
        self._stop_replaced_gateway()
        return True

    def why_not_both(self) -> str:
        """Return why the new server does not fit into memory beside the old one; empty if it does."""
        wanted = server_needs.memory_bytes(
            self._resolved.model.architecture.parameters, compute_dtype(local_device().kind)
        )
        free = memory_available()
        return (
            "" if wanted <= free else f"{free / 2**30:.1f} GiB are free, and the new server needs {wanted / 2**30:.1f}"
        )

    def stop_old(self) -> None:
        """Stop the old server."""
        self._lease.check()
        if self._old:
            self._old.process.stop(LONGEST_END_SECONDS)

    def start_old(self) -> bool:
        """Start the old server again if it has ended; return whether it had."""
        if self._old is None or self._old.process.alive():
            return False
        self._lease.check()
        self._stop_new()
        folder = servers.server_folder(self._name, self._old.version, self._old.adapter_sha256)
        process = start_server(self._name, Path(self._old.folder), folder, self._ready_seconds, self._old.chat)
        self._old = self._old.model_copy(update={"process": process})
        servers.remember(self._old)
        return True

    def start(self) -> None:
        """Start the new server and wait until it is ready; use it again if it still runs."""
        self._lease.check()
        servers.forget_refused(self._name)
        previous = servers.previous(self._name)
        if previous and self._is_candidate(previous):
            say(f"version {self._version} is still running")
            self._new = self._numbered(previous)
            return
        if previous:
            previous.process.stop(LONGEST_END_SECONDS)
        process = start_server(self._name, self._model, self._folder, self._ready_seconds, self._resolved.chat)
        self._new = servers.Server(
            name=self._name,
            version=self._version,
            run=self._resolved.run,
            base=self._resolved.model.uri,
            base_digest=self._resolved.model.digest,
            adapter_sha256=self._digest,
            folder=str(self._model),
            process=process,
            chat=self._resolved.chat,
        )

    def switch_traffic(self) -> None:
        """Point the gateway at the new server; start a gateway if none listens at the recipe's address."""
        new, known = self._started, [server for server in (self._old, self._new) if server]
        self._lease.check()
        servers.remember_trial(new)
        running = servers.gateway(self._name)
        if running and self._is_at_its_address(running):
            self._listeners_before = json.loads((Path(running.folder) / LISTENERS).read_text())
            rules = self._rules(running.process.port)
            wanted = gateways.write_listeners(Path(running.folder), rules, self._api_keys)
            gateways.wait_applied(EnvoyAdmin(Path(running.admin)), LISTENERS, wanted)
            self._point(running, known, new)
            return
        self._replaced_gateway = running
        upstreams = [_upstream(server) for server in known]
        with gateway_port(self._name, self._serve.host, self._serve.port) as port:
            self._started_gateway = start_gateway(self._rules(port), self._api_keys, upstreams, _upstream(new))

    def switch_back(self) -> None:
        """Point the gateway at the old server; if there was none, stop the gateway."""
        self._lease.check()
        if self._started_gateway:
            self._started_gateway.process.stop()
            self._started_gateway = None
            servers.forget_gateway(self._name)
            if self._replaced_gateway:
                servers.remember(self._replaced_gateway)
        running = servers.gateway(self._name)
        if running and self._old:
            known = [server for server in (self._old, self._new) if server and server.process.alive()]
            self._point(running, known, self._old)
            if self._listeners_before:
                write_private_json(Path(running.folder) / LISTENERS, self._listeners_before)
        servers.forget_trial(self._name)

    def traffic(self, *, new: bool) -> Traffic | None:
        """Return the gateway's request counts of a server; None if there is no gateway or no server."""
        running, server = servers.gateway(self._name), self._new if new else self._old
        if not running or not server:
            return None
        return read(EnvoyAdmin(Path(running.admin)).statistics(), _upstream(server).cluster)

    def retain_refused(self, reason: str) -> None:
        """Stop the new server, and keep its log and its command with the reason."""
        self._lease.check()
        self._stop_new()
        if self._folder.is_dir():
            kept = servers.RefusedVersion(
                name=self._name, version=self._version, reason=reason, folder=str(self._folder)
            )
            servers.remember_refused(kept)
            say(f"log and command of the refused server: {self._folder}")

    def finish(self) -> None:
        """Save what serves now, and stop the old server once it has answered its last request."""
        new, running = self._started, servers.gateway(self._name)
        self._lease.check()
        servers.remember(new)
        servers.forget_trial(self._name)
        servers.forget_previous(self._name)
        self._stop_replaced_gateway()
        if self._old and running:
            self._wait_idle(running, self._old, self._serve.answer_seconds)
            self._point(running, [new], new)
            if self._serve.keep_previous == "running":
                servers.remember_previous(self._old)
            else:
                self._old.process.stop(LONGEST_END_SECONDS)
                say(f"version {self._old.version} has been stopped")

    @property
    def _started(self) -> servers.Server:
        if self._new is None:
            raise RuntimeError("the new server has not been started")
        return self._new

    def _is_at_its_address(self, running: servers.Gateway) -> bool:
        wanted = self._serve.port or running.process.port
        return (running.host, running.process.port) == (self._serve.host, wanted)

    def _rules(self, port: int) -> Rules:
        return Rules(
            name=self._name,
            host=self._serve.host,
            port=port,
            answer_seconds=self._serve.answer_seconds,
            request_bytes=int(self._serve.max_request_mib * 2**20),
            requests_per_minute=self._serve.requests_per_minute,
        )

    def _point(self, running: servers.Gateway, known: list[servers.Server], live: servers.Server) -> None:
        """Point the gateway at one server, without interrupting a request; `known` are the servers that it may still use."""
        folder, admin = Path(running.folder), EnvoyAdmin(Path(running.admin))
        rules = self._rules(running.process.port)
        # Add a cluster before requests are routed to it, and remove it only after the last request.
        upstreams = {one.cluster: one for one in map(_upstream, (*known, live))}
        wanted = gateways.write_clusters(folder, Path(running.admin), [*upstreams.values()])
        gateways.wait_applied(admin, CLUSTERS, wanted)
        gateways.wait_applied(admin, ROUTES, gateways.write_routes(folder, rules, _upstream(live)))

    def _take_traffic(self, running: servers.Gateway, live: servers.Server, others: list[servers.Server]) -> None:
        """Point the gateway at one server, and let the others answer what they have begun, unless that takes long."""
        self._point(running, [live, *others], live)
        for other in others:
            if other.process != live.process:
                self._wait_idle(running, other, min(self._serve.answer_seconds, LONGEST_END_SECONDS))
        self._point(running, [live], live)

    def _wait_idle(self, running: servers.Gateway, server: servers.Server, seconds: float) -> None:
        admin, counted = EnvoyAdmin(Path(running.admin)), f"cluster.{_upstream(server).cluster}.upstream_rq_active"
        end = time.monotonic() + seconds
        while server.process.alive() and admin.active_requests(counted) and time.monotonic() < end:
            time.sleep(0.2)

    def _stop_replaced_gateway(self) -> None:
        """Stop the gateway at the old address, if the recipe has a new one."""
        if self._replaced_gateway:
            self._replaced_gateway.process.stop()
            self._replaced_gateway.remove_files()
            self._replaced_gateway = None

    def _stop_orphans(self) -> None:
        """Stop the servers that an interrupted rollout of another version has left."""
        previous = servers.previous(self._name)
        known = [one.process for one in (self._old, previous) if one]
        for process in servers.started(self._name, but=self._folder):
            if process not in known:
                self._lease.check()
                process.stop(LONGEST_END_SECONDS)

    def _stop_new(self) -> None:
        if self._new:
            self._new.process.stop(LONGEST_END_SECONDS)

    def _numbered(self, server: servers.Server) -> servers.Server:
        """Return the server with this version's number: with a new registry, the same adapter may have another one."""
        if server.version == self._version:
            return server
        return server.model_copy(update={"version": self._version, "run": self._resolved.run})

    def _is_candidate(self, server: servers.Server) -> bool:
        model = self._resolved.model
        return server.has(self._digest, model.uri, model.digest)

    @property
    def _folder(self) -> Path:
        return servers.server_folder(self._name, self._version, self._digest)


def _requires_key(folder: Path) -> bool:
    """Return whether the gateway with the configuration in a folder requires an API key."""
    listeners = folder / LISTENERS
    return listeners.exists() and "api_key_auth" in listeners.read_text()


def _own_url(server: servers.Server) -> str:
    return servers.base_url("127.0.0.1", server.process.port)


def _upstream(server: servers.Server) -> Upstream:
    same = server.model_dump(include={"version", "run", "base", "adapter_sha256"})
    return Upstream(port=server.process.port, started=server.process.started, **same)
