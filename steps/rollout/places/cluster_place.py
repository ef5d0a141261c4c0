"""Serves a version with a Deployment in this pod's namespace: started beside the old one, tested, then given the traffic."""

import time
from pathlib import Path

import httpx2

from steps.common.handover.installation import api_key_secret, needs_api_key
from steps.common.handover.resolved import Resolved
from steps.common.kubernetes.deployment_wait import wait_until_available
from steps.common.machine.devices import compute_dtype
from steps.common.runtime import cluster_settings
from steps.common.runtime.progress import say
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.web.web_client import local_client
from steps.rollout.checks import server_needs
from steps.rollout.checks.read_speed import read_speed
from steps.rollout.gateway.traffic import Traffic, read
from steps.rollout.gateway.upstream import Upstream
from steps.rollout.pods import version_objects
from steps.rollout.pods.model_objects import ModelObjects, why_no_room
from steps.rollout.vllm import base_server
from steps.rollout.vllm.with_vllm import with_vllm

# kube-proxy takes a moment to follow a Service; the first request after the switch may still reach the old version.
SETTLE_SECONDS = 3.0
# If no node can run the new pod for this long, it does not fit beside the old one.
UNPLACED_SECONDS = 120


class ClusterPlace:
    """A rollout in this pod's namespace."""

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
        """Find the version that serves now.

        Args:
            resolved: the recipe, and what it was resolved to.
            version: the registered version.
            model: folder of the merged model; of the base model if an adapter is served beside it.
            model_bytes: what the server reads before it is ready.
            digest: hash of the adapter's weights.
            base: folder of the base model.
            adapter: folder of the adapter.

        Raises:
            UserError: vLLM cannot serve the adapter, or an API key is required and none is set.
            RefusedError: the Service of that name does not belong to the model, or the base server does not load the adapter.
        """
        self._serve, self._name = resolved.recipe.serve, resolved.recipe.name
        self._api, self._space = ModelObjects(self._name), cluster_settings.namespace()
        computes_in = compute_dtype("cpu")  # this pod's node stands for those that serve
        beside = resolved.serving_plan.form == "adapter"
        speed = read_speed(model)
        self._spec = version_objects.VersionSpec(
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
            api_key_secret="",
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
        self._find_live_version()
        if needs_api_key(
            resolved.recipe, had_one=self._old is not None and self._api.requires_key(self._full(self._old))
        ):
            self._spec.api_key_secret = api_key_secret(resolved.recipe)
        if resolved.serving_plan.runtime == "vllm":
            self._spec = with_vllm(self._spec, resolved, base, adapter, speed)

    @property
    def url(self) -> str:
        """The live Service's base URL inside the cluster."""
        return self._url(self._name)

    @property
    def new_url(self) -> str:
        """The base URL of the version's own Service."""
        return self._url(self._spec.full_name)

    @property
    def old_url(self) -> str | None:
        """The same for the old version; None if there is none."""
        return None if self._old is None else self._url(self._full(self._old))

    @property
    def old_version(self) -> int | None:
        """The version that serves now; None if none does."""
        return self._old

    def serves_already(self) -> bool:
        """Return whether the version already serves; if so, apply the recipe's settings to its Deployment."""
        upstream = self._spec.upstream
        wanted = {version_objects.ADAPTER: upstream.adapter_sha256, version_objects.BASE: upstream.base}
        if self._old != self._spec.version or self._old_annotations != wanted:
            return False
        self._apply()
        self._wait_until_new_available()
        return True

    def why_not_both(self) -> str:
        """Create the new pods; return why a quota or the lack of a node prevents that, empty if nothing does."""
        if self._old is not None and self._api.stopped_replicas(self._full(self._old)):
            return f"an earlier rollout stopped version {self._old} and was interrupted"
        self._remove_refused()
        self._apply()
        started, reason, line = time.monotonic(), "", WaitingLine()
        while time.monotonic() - started < UNPLACED_SECONDS:
            pods = self._api.pods(self._spec.version)
            if len([pod for pod in pods if pod.spec.node_name]) >= self._spec.replicas:
                return ""
            found = self._api.deployment(self._spec.full_name)
            reason = why_no_room(found, pods) if found else ""
            line.report(f"{self._spec.full_name} to be placed{f': {reason}' if reason else ''}")
            time.sleep(1)
        if reason:
            # Kubernetes retries what a quota refuses ever more rarely: start() scales it up again once there is room.
            self._api.stop(self._spec.full_name)
        return reason

    def stop_old(self) -> None:
        """Stop the old version's pods and wait until they are gone."""
        if self._old is not None:
            self._remove_refused()  # while the old version still answers, since this waits
            self._end(self._old)

    def start_old(self) -> bool:
        """Restart the old version if it was stopped, and wait until it is ready; return whether it was stopped."""
        if self._old is None or not self._api.restart(self._full(self._old)):
            return False
        self._api.stop(self._spec.full_name)
        self.switch_back()  # before the wait, so that it serves even if this process is killed
        self._wait_until_available(self._full(self._old), self._old)
        return True

    def start(self) -> None:
        """Start the version's pods and wait until they are ready."""
        self._remove_refused()
        self._apply()
        self._wait_until_new_available()

    def switch_traffic(self) -> None:
        """Point the live Service at the version, on trial."""
        self._api.apply(version_objects.live_service(self._spec, "" if self._old is None else str(self._old)))
        time.sleep(SETTLE_SECONDS)

    def switch_back(self) -> None:
        """Point the live Service at the old version; if there was none, delete the Service."""
        if self._old is None:
            self._api.delete_service(self._name)
        else:
            self._api.apply(version_objects.service(self._name, self._name, self._old, self._old_annotations))
            time.sleep(SETTLE_SECONDS)

    def traffic(self, *, new: bool) -> Traffic | None:
        """Return the request counts of a version's gateways, summed over its pods; None if one cannot be read."""
        version = self._spec.version if new else self._old
        if version is None:
            return None
        upstream = self._spec.upstream.model_copy(update={"version": version})
        found = []
        try:
            for pod in self._api.pods(version):
                with local_client(timeout=5) as client:
                    answer = client.get(f"http://{pod.status.pod_ip}:{version_objects.STATS_PORT}/metrics")
                answer.raise_for_status()
                found.append(read(answer.text, upstream.cluster))
        except httpx2.HTTPError as error:
            say(f"cannot read the statistics of version {version}: {error}")
            return None
        return sum(found, Traffic())

    def retain_refused(self, reason: str) -> None:
        """Keep the refused Deployment outside every Service, with the reason, until the next rollout."""
        self._api.delete_service(self._spec.full_name)
        self._api.mark(self._spec.full_name, version_objects.REFUSED, " ".join(reason.split()))
        say(f"{self._spec.full_name} is kept without traffic until the next rollout, so that you can inspect it")

    def finish(self) -> None:
        """End the trial, keep the old version for a rollback, and delete older ones."""
        self._api.apply(version_objects.live_service(self._spec, None))
        self._api.mark(self._spec.full_name, version_objects.LIVE)
        kept = {self._spec.full_name}
        if self._old is not None and self._old != self._spec.version:
            before = self._full(self._old)
            kept.add(before)
            stopped = self._serve.keep_previous == "stopped" or bool(self._api.stopped_replicas(before))
            self._api.mark(before, version_objects.BEFORE, replicas=0 if stopped else None)
            say(f"{before} is kept for a rollback, {'stopped' if stopped else 'running'}")
        for found in self._api.deployments():
            if found.metadata.name not in kept:
                self._api.delete_version(found.metadata.name)
                say(f"{found.metadata.name} has been deleted")
        if cluster_settings.vllm_image():
            base_server.stop_unused()

    def _find_live_version(self) -> None:
        """Find the version that serves now, and undo the trial of an interrupted rollout."""
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
            say(
                "an earlier rollout was interrupted: its traffic goes back to the old version, and this rollout starts over"
            )
            self.switch_back()

    def _apply(self) -> None:
        self._api.apply(version_objects.deployment(self._spec))
        self._api.apply(version_objects.version_service(self._spec))
        self._api.mark(self._spec.full_name, None)

    def _remove_refused(self) -> None:
        for found in self._api.deployments():
            if found.metadata.labels.get(version_objects.STATE) != version_objects.REFUSED:
                continue
            if found.metadata.name != self._spec.full_name:
                self._api.delete_version(found.metadata.name)
            else:
                # The cause may have been fixed since; start with a new pod.
                self._end(self._spec.version)

    def _end(self, version: int) -> None:
        self._api.stop(self._full(version))
        end = time.monotonic() + server_needs.grace_seconds(self._serve.answer_seconds)
        while self._api.has_pods(version) and time.monotonic() < end:
            time.sleep(1)

    def _wait_until_new_available(self) -> None:
        self._wait_until_available(self._spec.full_name, self._spec.version)

    def _wait_until_available(self, full_name: str, version: int) -> None:
        """Wait until a version's Deployment is available.

        Raises:
            RefusedError: it was not available in time, or its pods cannot start.
        """
        selector = f"{version_objects.MODEL_LABEL}={self._name},{version_objects.VERSION_LABEL}={version}"
        seconds = server_needs.progress_deadline_seconds(self._spec.ready_seconds)
        wait_until_available(full_name, self._space, selector, seconds)

    def _full(self, version: int) -> str:
        return version_objects.full_name(self._name, version)

    def _url(self, service: str) -> str:
        return f"http://{service}.{self._space}.svc/v1"
