"""The Kubernetes objects that serve a model: a Deployment and a Service per version, and one Service with a fixed name."""

from typing import Any

from pydantic import BaseModel

from steps.common.runtime import cluster_settings
from steps.rollout.checks import server_needs
from steps.rollout.gateway.envoy import HEALTH
from steps.rollout.gateway.gateway import SOCKET
from steps.rollout.gateway.upstream import Rules, Upstream
from steps.rollout.pods import pod_spec
from steps.rollout.pods.pod_spec import MOUNTS

MODEL_LABEL, VERSION_LABEL = "fineline.dev/model", "fineline.dev/version"
ADAPTER, BASE = "fineline.dev/adapter-sha256", "fineline.dev/base"
UPSTREAM_LABEL = "fineline.dev/upstream"  # the base server that a gateway forwards requests to
# The version to go back to if a rollout is killed after it has switched the traffic.
TRIAL = "fineline.dev/on-trial-after"
# The replicas of a Deployment before a rollout stopped it, to make room or to restart it.
REPLICAS = "fineline.dev/replicas"
STATE, REASON = "fineline.dev/state", "fineline.dev/refused-because"
LIVE, BEFORE, REFUSED = "live", "previous", "refused"  # states of a version's Deployment
GATEWAY_PORT, STATS_PORT, SERVER_PORT = 8080, 8081, 8000
GATEWAY_FOLDER = "/tmp/gateway"
# Linux does not deliver SIGTERM to a container's first process unless that has a handler. Until transformers installs its
# own, the pod would keep its room for as long as the longest answer may take.
TRANSFORMERS = """\
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
from transformers.cli.transformers import main
sys.exit(main())
"""
MODELS = "/models"


def full_name(model: str, version: int) -> str:
    """Return the name of a version's Deployment and Service."""
    return f"{model}-v{version}"


class VersionSpec(BaseModel):
    """The specification of a version to serve."""

    name: str  # name of the model
    image: str
    sub_path: str  # of the merged model, on the runs volume
    memory_bytes: int  # memory request of its pod
    ready_seconds: int  # time limit of the model server's start
    rules: Rules
    compute_type: str  # torch's name of the type that it computes in
    api_key_secret: str  # Secret that may hold the API key under "key"
    one_node: bool  # schedule the pod on the node of the pods that mount the volumes
    upstream: Upstream
    base_server: str = ""  # the vLLM base server that has the adapter; empty: the pod has its own model server
    server: dict[str, Any] | None = None  # container of the pod's own model server; None: `transformers serve`
    additions: dict[str, Any] = {}  # to the pod's specification, for that container
    volumes: list[dict[str, Any]] = []  # of the pod, for that container
    replicas: int = 1

    @property
    def version(self) -> int:
        """The registered version."""
        return self.upstream.version

    @property
    def full_name(self) -> str:
        """Name of the version's Deployment and Service."""
        return full_name(self.name, self.version)


def rules(name: str, answer_seconds: int, request_bytes: int, requests_per_minute: int) -> Rules:
    """Return the rules of a model's gateway, with the ports of its pod."""
    return Rules(
        name=name,
        host="0.0.0.0",
        port=GATEWAY_PORT,
        stats_port=STATS_PORT,
        answer_seconds=answer_seconds,
        request_bytes=request_bytes,
        requests_per_minute=requests_per_minute,
    )


def deployment(spec: VersionSpec) -> dict[str, Any]:
    """Return the version's Deployment: the gateway and, unless a base server has the adapter, its model server.

    The model server listens on SERVER_PORT of 127.0.0.1 and answers `/health`.
    """
    labels = _labels(spec.name, spec.version)
    # Pods that mount the volumes must not be drawn to the node of one that does not.
    within = {**labels, **({UPSTREAM_LABEL: spec.base_server} if spec.base_server else MOUNTS)}
    if spec.base_server:
        labels = within
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": spec.full_name, "labels": labels, "annotations": _annotations(spec)},
        "spec": {
            "replicas": spec.replicas,
            "selector": {"matchLabels": _selector(spec.name, spec.version)},
            "progressDeadlineSeconds": server_needs.progress_deadline_seconds(spec.ready_seconds),
            # If a version is served again with other limits, no pod ends before its successor is ready.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": within}, "spec": _pod(spec)},
        },
    }


def service(name: str, model: str, version: int, annotations: dict[str, str]) -> dict[str, Any]:
    """Return a Service for the pods of one version."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": _labels(model, version), "annotations": annotations},
        "spec": {
            "selector": _selector(model, version),
            "ports": [{"name": "http", "port": 80, "targetPort": GATEWAY_PORT}],
        },
    }


def version_service(spec: VersionSpec) -> dict[str, Any]:
    """Return the Service for testing a version before, and beside, the traffic."""
    return service(spec.full_name, spec.name, spec.version, _annotations(spec))


def live_service(spec: VersionSpec, after: str | None) -> dict[str, Any]:
    """Return the Service that users talk to, for the pods of this version.

    Args:
        spec: the version.
        after: during the trial, the version to go back to, empty if there is none; None: the trial is over.
    """
    trial = {} if after is None else {TRIAL: after}
    return service(spec.name, spec.name, spec.version, _annotations(spec) | trial)


def _selector(model: str, version: int) -> dict[str, str]:
    return {MODEL_LABEL: model, VERSION_LABEL: str(version)}


def _labels(model: str, version: int) -> dict[str, str]:
    return {
        "app.kubernetes.io/part-of": "fineline",
        "app.kubernetes.io/component": "server",
        **_selector(model, version),
    }


def _annotations(spec: VersionSpec) -> dict[str, str]:
    return {ADAPTER: spec.upstream.adapter_sha256, BASE: spec.upstream.base}


def transformers(spec: VersionSpec) -> dict[str, Any]:
    """Return the container of `transformers serve`, pinned to the model."""
    address = ["--host", "127.0.0.1", "--port", str(SERVER_PORT)]
    command = ["python3", "-c", TRANSFORMERS, "serve", spec.name, *address, "--dtype", spec.compute_type]
    return {
        **pod_spec.container("server", spec.image, command, [model_mount(spec.name, spec.sub_path)]),
        "workingDir": MODELS,
        "env": [{"name": "HF_HUB_OFFLINE", "value": "1"}, {"name": "TRANSFORMERS_VERBOSITY", "value": "error"}],
        "resources": pod_spec.resources("250m", spec.memory_bytes),
    }


def model_mount(name: str, sub_path: str) -> dict[str, Any]:
    """Return the mount of a merged model. Its path ends in the model's name, which is the name that the server answers to."""
    return {"name": "runs", "mountPath": f"{MODELS}/{name}", "subPath": sub_path, "readOnly": True}


def gateway(spec: VersionSpec) -> dict[str, Any]:
    """Return the gateway's container."""
    start = ["python", "-m", "steps.rollout.gateway.gateway", GATEWAY_FOLDER]
    socket, times = f"{GATEWAY_FOLDER}/{SOCKET}", (server_needs.LEAVE_SECONDS, spec.rules.answer_seconds)
    drain = ["python", "-m", "steps.rollout.gateway.drain", socket, *map(str, times)]
    given = [spec.rules.model_dump_json(), spec.upstream.model_dump_json()]
    return {
        **pod_spec.container("gateway", spec.image, [*start, *given], []),
        "env": [_api_key(spec.api_key_secret)] if spec.api_key_secret else [],
        "ports": [{"name": "http", "containerPort": GATEWAY_PORT}, {"name": "stats", "containerPort": STATS_PORT}],
        # Forwarded to the model server: a pod that cannot answer gets no requests.
        "readinessProbe": {
            "httpGet": {"path": HEALTH, "port": GATEWAY_PORT},
            "periodSeconds": 3,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            "tcpSocket": {"port": GATEWAY_PORT},
            "periodSeconds": 10,
            "failureThreshold": 3,
            **pod_spec.PROBE_GRACE,
        },
        "lifecycle": {"preStop": {"exec": {"command": drain}}},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "4", "memory": "1Gi"}},
    }


def _pod(spec: VersionSpec) -> dict[str, Any]:
    own = not spec.base_server
    return {
        **({"affinity": pod_spec.on_the_volumes_node()} if spec.one_node and own else {}),
        **spec.additions,
        **pod_spec.pod(server_needs.grace_seconds(spec.rules.answer_seconds)),
        **({"initContainers": [_model_server(spec)]} if own else {}),
        "containers": [gateway(spec)],
        "volumes": [
            *([pod_spec.claim(pod_spec.RUNS_CLAIM)] if own else []),
            {"name": "tmp", "emptyDir": {}},
            *spec.volumes,
        ],
    }


def _model_server(spec: VersionSpec) -> dict[str, Any]:
    # The kubelet cannot reach a server that listens only inside its pod, so the image's Python sends the request.
    asks = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{SERVER_PORT}{HEALTH}', timeout=8)"
    probe = {"exec": {"command": ["python3", "-c", asks]}, "timeoutSeconds": 10}
    # A sidecar (Kubernetes 1.29): ready before the gateway starts, and ended after it, whichever server it is.
    return {
        **(spec.server or transformers(spec)),
        "restartPolicy": "Always",
        "startupProbe": {
            **probe,
            "periodSeconds": server_needs.PROBE_SECONDS,
            "failureThreshold": server_needs.failure_threshold(spec.ready_seconds),
            **pod_spec.PROBE_GRACE,
        },
        # Two minutes: computing a long answer may leave a processor little time for anything else.
        "livenessProbe": {**probe, "periodSeconds": 20, "failureThreshold": 6, **pod_spec.PROBE_GRACE},
    }


def _api_key(secret: str) -> dict[str, Any]:
    return {
        "name": cluster_settings.API_KEY_SETTING,
        "valueFrom": {"secretKeyRef": {"name": secret, "key": "key", "optional": True}},
    }
