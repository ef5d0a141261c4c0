"""Serves a version with a Deployment in this pod's namespace: started beside the old one, tested, then given the traffic."""

import time
from pathlib import Path

import httpx2

from steps.common.handover.installation import api_key_secret, needs_api_key
from steps.common.handover.resolved import Resolved
from steps.common.kubernetes.deployment_wait import wait_until_available
from steps.common.machine.devices import compute_dtype
from steps.common.registry import tracking
from steps.common.runtime import cluster_settings
from steps.common.runtime.progress import say
from steps.common.runtime.waiting import WaitingLine
from steps.common.storage import volumes
from steps.common.web.web_client import local_client
from steps.rollout.checks import server_needs
from steps.rollout.checks.read_speed import read_speed
from steps.rollout.gateway.traffic import Traffic, read
from steps.rollout.gateway.upstream import Upstream
from steps.rollout.lease.right import ServingLease
from steps.rollout.pods import object_names, version_objects
from steps.rollout.pods.live_version import SETTLE_SECONDS, keep, live_version, point, unfinished
from steps.rollout.pods.model_objects import ModelObjects, why_no_room
from steps.rollout.pods.served_version import ServedVersion
from steps.rollout.vllm import base_server
from steps.rollout.vllm.with_vllm import with_vllm

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
        champion: int,
        lease: ServingLease,
    ) -> None:
        """Find the version that serves now, and put right what an interrupted rollout has left.

        Args:
            resolved: the recipe, and what it was resolved to.
            version: the registered version.
            model: folder of the merged model; of the base model if an adapter is served beside it.
            model_bytes: what the server reads before it is ready.
            digest: hash of the adapter's weights.
            base: folder of the base model.
            adapter: folder of the adapter.
            champion: the version that is champion; 0: none.
            lease: the model's serving lease, held.

        Raises:
            UserError: vLLM cannot serve the adapter, an API key is required and none is set, or an object of a needed name
                belongs to somebody else.
            RefusedError: the base server does not load the adapter.
        """
        self._serve, self._name = resolved.recipe.serve, resolved.recipe.name
        self._api, self._space, self._lease = ModelObjects(self._name, lease), cluster_settings.namespace(), lease
        computes_in = compute_dtype("cpu")  # this pod's node stands for those that serve
        beside = resolved.serving_plan.form == "adapter"
        speed = read_speed(model)
        self._spec = version_objects.VersionSpec(
            name=self._name,
            digest=object_names.version_digest(self._name, version, digest, resolved.model.digest),
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
            chat=resolved.chat,
            api_key_secret="",
            one_node=cluster_settings.one_node(),
            replicas=resolved.serving_plan.replicas,
            registry="" if tracking.is_own(resolved.tracking.uri) else resolved.tracking.uri,
            upstream=Upstream(
                port=version_objects.SERVER_PORT,
                version=version,
                run=resolved.run,
                base=resolved.model.uri,
                adapter_sha256=digest,
            ),
        )
        self._api.check_names(self._spec)
        self._api.claim()
        self._old = live_version(self._api, champion)
        for name in unfinished(self._api, but={self._spec.full_name, self._old.name if self._old else ""}):
            self._api.delete_version(name)
            say(f"{name} has been deleted: its rollout was interrupted")
        had_one = self._old is not None and self._api.requires_key(self._old.name)
        if needs_api_key(resolved.recipe, had_one=had_one):
            self._spec.api_key_secret = api_key_secret(resolved.recipe)
        if resolved.serving_plan.runtime == "vllm":
            lease.check()
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
        return None if self._old is None else self._url(self._old.name)

    @property
    def old_version(self) -> int | None:
        """The version that serves now; None if none does."""
        return None if self._old is None else self._old.version

    def serves_already(self) -> bool:
        """Return whether the version already serves; if so, apply the recipe's settings to its Deployment."""
        if self._old is None or self._old.selector != self._spec.served.selector:
            return False
        self._api.apply_version(self._spec)
        self._api.mark(self._spec.full_name, version_objects.LIVE)
        self._wait_until_new_available()
        return True

    def why_not_both(self) -> str:
        """Create the new pods; return why a quota or the lack of a node prevents that, empty if nothing does."""
        if self._old is not None and self._api.stopped_replicas(self._old.name):
            return f"an earlier rollout stopped version {self._old.version} and was interrupted"
        self._remove_refused()
        self._api.apply_version(self._spec)
        started, reason, line = time.monotonic(), "", WaitingLine()
        while time.monotonic() - started < UNPLACED_SECONDS:
            pods = self._api.pods(self._spec.served)
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
        if self._old is None or not self._api.restart(self._old.name):
            return False
        self._api.stop(self._spec.full_name)
        self.switch_back()  # before the wait, so that it serves even if this process is killed
        self._wait_until_available(self._old)
        return True

    def start(self) -> None:
        """Start the version's pods and wait until they are ready."""
        self._remove_refused()
        self._api.apply_version(self._spec)
        self._wait_until_new_available()

    def switch_traffic(self) -> None:
        """Point the live Service at the version, on trial."""
        self._api.point_traffic(self._spec.served, on_trial_after="" if self._old is None else self._old.name)
        time.sleep(SETTLE_SECONDS)

    def switch_back(self) -> None:
        """Point the live Service at the old version; if there was none, delete the Service."""
        if self._old is None:
            self._api.delete_traffic()
        else:
            point(self._api, self._old)

    def traffic(self, *, new: bool) -> Traffic | None:
        """Return the request counts of a version's gateways, summed over its pods; None if one cannot be read."""
        served = self._spec.served if new else self._old
        if served is None:
            return None
        upstream = self._spec.upstream.model_copy(update={"version": served.version})
        found = []
        try:
            for pod in self._api.pods(served):
                with local_client(timeout=5) as client:
                    answer = client.get(f"http://{pod.status.pod_ip}:{version_objects.STATS_PORT}/metrics")
                answer.raise_for_status()
                found.append(read(answer.text, upstream.cluster))
        except httpx2.HTTPError as error:
            say(f"cannot read the statistics of version {served.version}: {error}")
            return None
        return sum(found, Traffic())

    def retain_refused(self, reason: str) -> None:
        """Keep the refused Deployment outside every Service, with the reason, until the next rollout."""
        self._api.close(self._spec.full_name)
        self._api.mark(self._spec.full_name, version_objects.REFUSED, " ".join(reason.split()))
        say(f"{self._spec.full_name} is kept without traffic until the next rollout, so that you can inspect it")

    def finish(self) -> None:
        """Keep the old version for a rollback, delete older ones, and end the trial: last, so that `recover` can finish it."""
        old = self._old if self._old is not None and self._old.name != self._spec.full_name else None
        stopped = old is not None and (
            self._serve.keep_previous == "stopped" or bool(self._api.stopped_replicas(old.name))
        )
        keep(self._api, self._spec.full_name, old.name if old else None, stopped=stopped)
        self._api.point_traffic(self._spec.served)
        if cluster_settings.vllm_image():
            self._lease.check()
            base_server.stop_unused()

    def _remove_refused(self) -> None:
        for found in self._api.deployments():
            if found["metadata"]["labels"].get(version_objects.STATE) != version_objects.REFUSED:
                continue
            if (name := found["metadata"]["name"]) != self._spec.full_name:
                self._api.delete_version(name)
            else:
                # The cause may have been fixed since; start with a new pod.
                self._end(self._spec.served)

    def _end(self, served: ServedVersion) -> None:
        self._api.stop(served.name)
        end = time.monotonic() + server_needs.grace_seconds(self._serve.answer_seconds)
        while self._api.has_pods(served) and time.monotonic() < end:
            time.sleep(1)

    def _wait_until_new_available(self) -> None:
        self._wait_until_available(self._spec.served)

    def _wait_until_available(self, served: ServedVersion) -> None:
        """Wait until a version's Deployment is available.

        Raises:
            RefusedError: it was not available in time, or its pods cannot start.
        """
        seconds = server_needs.progress_deadline_seconds(self._spec.ready_seconds)
        wait_until_available(served.name, self._space, served.selects, seconds)

    def _url(self, service: str) -> str:
        return f"http://{service}.{self._space}.svc/v1"
