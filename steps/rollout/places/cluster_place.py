"""Serves a version by a Deployment in this pod's namespace: beside the old one, asked, and then given the traffic."""

import time
from pathlib import Path

import httpx2

from steps.common.handover.resolved import Resolved
from steps.common.machine.devices import compute_dtype
from steps.common.runtime import cluster_settings
from steps.common.runtime.errors import RefusedError
from steps.common.runtime.progress import Progress, say
from steps.common.storage import volumes
from steps.rollout.checks import server_needs
from steps.rollout.checks.read_speed import read_speed
from steps.rollout.gateway.traffic import Traffic, read
from steps.rollout.gateway.upstream import Upstream
from steps.rollout.pods import version_objects
from steps.rollout.pods.model_objects import Api, no_room, not_made, starts_lost, why_not_ready
from steps.rollout.vllm import base_server
from steps.rollout.vllm.with_vllm import with_vllm

# kube-proxy takes a moment to move a Service; the first question after it may still meet the old version.
SETTLE_SECONDS = 3.0
# A server that has ended so often before it was ready will not be.
MOST_STARTS_LOST = 2
# So long no node has room for the new pod: then it does not fit beside the old one.
UNPLACED_SECONDS = 120


class ClusterPlace:
    """This pod's namespace as the place of a rollout."""

    def __init__(
        self,
        resolved: Resolved,
        version: int,
        model: Path,
        model_bytes: int,
        digest: str,
        base: Path,
        adapter: Path,
    ) -> None:
        """Look at what serves now.

        Args:
            resolved: the recipe, and what it was resolved to.
            version: the registered version.
            model: folder of the merged model; of the base, where an adapter is served beside it.
            model_bytes: that the server has to read.
            digest: hash of the adapter's weights.
            base: folder of the base model.
            adapter: folder of the adapter.

        Raises:
            UserError: vLLM would not take the adapter.
            RefusedError: a Service of the model's name belongs to somebody else; the base server does not load the adapter.
        """
        self._serve, self._name = resolved.recipe.serve, resolved.recipe.name
        self._api, self._space = Api(self._name), cluster_settings.namespace()
        computes_in = compute_dtype("cpu")  # as on this pod's node, which is taken to be like those that serve
        beside = resolved.serving_plan.form == "adapter"
        speed = read_speed(model)
        self._serving = version_objects.Serving(
            name=self._name,
            image=cluster_settings.serve_image(),
            sub_path="" if beside else model.relative_to(volumes.runs()).as_posix(),
            memory_bytes=server_needs.memory_bytes(resolved.model.architecture.parameters, computes_in),
            ready_seconds=server_needs.ready_seconds(model_bytes, speed, wanted=self._serve.ready_seconds),
            rules=version_objects.rules(
                self._name,
                self._serve.answer_seconds,
                int(self._serve.max_request_mib * 2**20),
                self._serve.requests_per_minute,
            ),
            compute_type=computes_in,
            api_key_secret=cluster_settings.api_key_secret(),
            one_node=cluster_settings.one_node(),
            upstream=Upstream(
                port=version_objects.SERVER_PORT,
                version=version,
                run=resolved.run,
                base=resolved.model.uri,
                adapter_sha256=digest,
            ),
        )
        self._old: int | None = None
        self._old_annotations: dict[str, str] = {}
        self._look()
        if resolved.serving_plan.runtime == "vllm":
            self._serving = with_vllm(self._serving, resolved, base, adapter, speed)

    @property
    def url(self) -> str:
        """The live Service's base URL inside the cluster."""
        return self._url(self._name)

    @property
    def new_url(self) -> str:
        """That of the version's own Service."""
        return self._url(self._serving.full_name)

    @property
    def old_url(self) -> str | None:
        """Likewise of the old version."""
        return None if self._old is None else self._url(self._full(self._old))

    @property
    def old_version(self) -> int | None:
        """What serves now."""
        return self._old

    def serves_already(self) -> bool:
        """Tell whether the version is what serves; then its Deployment is made as the recipe says."""
        upstream = self._serving.upstream
        wanted = {version_objects.ADAPTER: upstream.adapter_sha256, version_objects.BASE: upstream.base}
        if self._old != self._serving.version or self._old_annotations != wanted:
            return False
        self._apply()
        self._wait()
        return True

    def why_not_both(self) -> str:
        """Ask for the new pods; return what Kubernetes says where it does not make them or no node takes them."""
        if self._old is not None and self._api.stopped(self._full(self._old)):
            return f"version {self._old} was stopped by a rollout that was lost"
        self._remove_refused()
        self._apply()
        started, reason = time.monotonic(), ""
        while time.monotonic() - started < UNPLACED_SECONDS:
            pods = self._api.pods(self._serving.version)
            if len([pod for pod in pods if pod.spec.node_name]) >= self._serving.replicas:
                return ""
            found = self._api.deployment(self._serving.full_name)
            reason = no_room(found, pods) if found else ""
            time.sleep(1)
        if reason:
            # Asked for anew once there is room: what a quota refuses is tried ever more seldom.
            self._api.stop(self._serving.full_name)
        return reason

    def stop_old(self) -> None:
        """End the old version's pods and wait until they are gone."""
        if self._old is not None:
            self._remove_refused()  # while the old one answers: it is waited for
            self._end(self._old)

    def start_old(self) -> bool:
        """Give the old version its room and the traffic back where it was stopped, and wait until it serves."""
        if self._old is None or not self._api.start_again(self._full(self._old)):
            return False
        self._api.stop(self._serving.full_name)
        self.move_back()  # before the wait: it then serves even where this process is ended meanwhile
        self._wait_available(self._full(self._old), self._old)
        return True

    def start(self) -> None:
        """Start the version's pod and wait until it is ready."""
        self._remove_refused()
        self._apply()
        self._wait()

    def move(self) -> None:
        """Point the live Service at the version, on trial."""
        self._api.apply(version_objects.live_service(self._serving, "" if self._old is None else str(self._old)))
        time.sleep(SETTLE_SECONDS)

    def move_back(self) -> None:
        """Point the live Service at the old version; where there was none, delete it."""
        if self._old is None:
            self._api.delete_service(self._name)
        else:
            self._api.apply(version_objects.service(self._name, self._name, self._old, self._old_annotations))

    def traffic(self, *, new: bool) -> Traffic | None:
        """Return what the gateways of a version have counted, all its pods together."""
        version = self._serving.version if new else self._old
        if version is None:
            return None
        upstream = self._serving.upstream.model_copy(update={"version": version})
        found = []
        try:
            for pod in self._api.pods(version):
                answer = httpx2.get(f"http://{pod.status.pod_ip}:{version_objects.STATS_PORT}/metrics", timeout=5)
                answer.raise_for_status()
                found.append(read(answer.text, upstream.cluster))
        except httpx2.HTTPError as error:
            say(f"the statistics of version {version} cannot be read: {error}")
            return None
        return sum(found, Traffic())

    def keep_for_a_look(self, reason: str) -> None:
        """Leave the refused Deployment as it is, out of every Service, with the reason."""
        self._api.delete_service(self._serving.full_name)
        self._api.mark(self._serving.full_name, version_objects.REFUSED, " ".join(reason.split()))
        say(f"{self._serving.full_name} is kept for a look, until the next rollout")

    def finish(self) -> None:
        """End the trial; keep the old version to go back to, and delete what is older."""
        self._api.apply(version_objects.live_service(self._serving, None))
        self._api.mark(self._serving.full_name, version_objects.LIVE)
        kept = {self._serving.full_name}
        if self._old is not None and self._old != self._serving.version:
            before = self._full(self._old)
            kept.add(before)
            stopped = self._serve.keep_previous == "stopped" or bool(self._api.stopped(before))
            self._api.mark(before, version_objects.BEFORE, replicas=0 if stopped else None)
            say(f"{before} is kept to go back to, {'stopped' if stopped else 'running'}")
        for found in self._api.deployments():
            if found.metadata.name not in kept:
                self._api.delete_version(found.metadata.name)
                say(f"{found.metadata.name} is deleted")
        if cluster_settings.vllm_image():
            base_server.stop_unused()

    def _look(self) -> None:
        """Find what serves now; what a lost rollout has left on trial is taken back."""
        live = self._api.service(self._name)
        if live is None:
            return
        given = live.metadata.annotations or {}
        on_trial = given.get(version_objects.TRIAL)
        if on_trial is None:
            self._old = int(live.spec.selector[version_objects.VERSION_LABEL])
        elif on_trial:
            self._old = int(on_trial)
            before = self._api.deployment(self._full(self._old))
            given = before.metadata.annotations if before else {}
        self._old_annotations = {
            key: given[key] for key in (version_objects.ADAPTER, version_objects.BASE) if key in given
        }
        if on_trial is not None:
            say("a rollout was lost on the way: the traffic goes back, and it begins again")
            self.move_back()

    def _apply(self) -> None:
        self._api.apply(version_objects.deployment(self._serving))
        self._api.apply(version_objects.version_service(self._serving))
        self._api.mark(self._serving.full_name, None)

    def _remove_refused(self) -> None:
        for found in self._api.deployments():
            if found.metadata.labels.get(version_objects.STATE) != version_objects.REFUSED:
                continue
            if found.metadata.name != self._serving.full_name:
                self._api.delete_version(found.metadata.name)
            else:
                # What it was refused for may have been mended: that its pod was not ready then says nothing any more.
                self._end(self._serving.version)

    def _end(self, version: int) -> None:
        self._api.stop(self._full(version))
        end = time.monotonic() + server_needs.grace_seconds(self._serve.answer_seconds)
        while self._api.ending(version) and time.monotonic() < end:
            time.sleep(1)

    def _wait(self) -> None:
        self._wait_available(self._serving.full_name, self._serving.version)

    def _wait_available(self, full_name: str, version: int) -> None:
        """Wait until a Deployment is available.

        Raises:
            RefusedError: it was not in time; the text has what its pods say.
        """
        seconds = server_needs.progress_deadline_seconds(self._serving.ready_seconds)
        progress = Progress(0, f"s, waiting for {full_name}")
        started = time.monotonic()
        while (waited := time.monotonic() - started) < seconds:
            found = self._api.deployment(full_name)
            if found is not None:
                status, wanted = found.status, found.spec.replicas
                current = status.observed_generation == found.metadata.generation
                if current and (status.available_replicas or 0) >= wanted and (status.updated_replicas or 0) >= wanted:
                    return
                late = any(c.type == "Progressing" and c.status == "False" for c in status.conditions or [])
                if late or starts_lost(self._api.pods(version)) >= MOST_STARTS_LOST:
                    break
            progress.update(round(waited))
            time.sleep(0.5)
        why = why_not_ready(self._api.pods(version), not_made(found) if found else "")
        raise RefusedError(f"{full_name} was not ready in {waited:.0f} s: {why}")

    def _full(self, version: int) -> str:
        return version_objects.full_name(self._name, version)

    def _url(self, service: str) -> str:
        return f"http://{service}.{self._space}.svc/v1"
