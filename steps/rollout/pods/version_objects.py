"""The Kubernetes objects that serve a model: a Service with its name; per version a Deployment, a Service, and a budget."""

from typing import Any

from pydantic import BaseModel

from steps.common.handover.resolved import ResolvedChat
from steps.common.runtime import cluster_settings
from steps.rollout.checks import server_needs
from steps.rollout.gateway.envoy import HEALTH
from steps.rollout.gateway.gateway import SOCKET
from steps.rollout.gateway.gateway_memory import gateway_memory_bytes
from steps.rollout.gateway.upstream import Rules, Upstream
from steps.rollout.pods import object_names, pod_spec
from steps.rollout.pods.object_names import DIGEST_LABEL, MODEL_LABEL
from steps.rollout.pods.pod_spec import MOUNTS
from steps.rollout.pods.served_version import ADAPTER, BASE, REGISTRY, ServedVersion
from steps.rollout.server import serve_model

# Not the label of a Deployment or Service: a Service of 0.1.0 selects by that, and must not select pods of this release.
POD_VERSION_LABEL = "app.kubernetes.io/version"
UPSTREAM_LABEL = "fineline.dev/upstream"  # the base server that a gateway forwards requests to
# The Deployment to go back to if a rollout is killed after it has switched the traffic; empty: none. 0.1.0 wrote its version.
TRIAL = "fineline.dev/on-trial-after"
# The replicas of a Deployment before a rollout stopped it, to make room or to restart it.
REPLICAS = "fineline.dev/replicas"
STATE, REASON = "fineline.dev/state", "fineline.dev/refused-because"
LIVE, BEFORE, REFUSED = "live", "previous", "refused"  # states of a version's Deployment
GATEWAY_PORT, STATS_PORT, SERVER_PORT = 8080, 8081, 8000
GATEWAY_FOLDER = "/tmp/gateway"
MODELS = "/models"


class VersionSpec(BaseModel):
    """The specification of a version to serve."""

    name: str  # name of the model
    digest: str  # tells this version apart from every other one: see `object_names.version_digest`
    image: str
    sub_path: str  # of the merged model, on the runs volume
    memory_bytes: int  # memory request of its pod
    ready_seconds: int  # time limit of the model server's start
    rules: Rules
    compute_type: str  # torch's name of the type that it computes in
    chat: ResolvedChat = ResolvedChat()  # how the model is asked
    # Secret that holds the API key under "key", and a previous one under "previous"; empty: none is required
    api_key_secret: str
    one_node: bool  # schedule the pod on the node of the pods that mount the volumes
    upstream: Upstream
    base_server: str = ""  # the vLLM base server that has the adapter; empty: the pod has its own model server
    server: dict[str, Any] | None = None  # container of the pod's own model server; None: transformers'
    additions: dict[str, Any] = {}  # to the pod's specification, for that container
    volumes: list[dict[str, Any]] = []  # of the pod, for that container
    replicas: int = 1
    registry: str = ""  # address of the one that has the version; empty: the installation's own

    @property
    def version(self) -> int:
        """The registered version."""
        return self.upstream.version

    @property
    def full_name(self) -> str:
        """Name of the version's Deployment, Service, and disruption budget."""
        return object_names.of_version(self.name, self.version, self.digest)

    @property
    def served(self) -> ServedVersion:
        """The version, as its Deployment will describe it."""
        selector = {MODEL_LABEL: self.name, DIGEST_LABEL: self.digest}
        content = {ADAPTER: self.upstream.adapter_sha256, BASE: self.upstream.base}
        content |= {REGISTRY: self.registry} if self.registry else {}
        return ServedVersion(self.full_name, self.version, selector, content)


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
    served, upstream = spec.served, {UPSTREAM_LABEL: spec.base_server} if spec.base_server else {}
    within = {
        **_labels(spec.name),
        **served.selector,
        POD_VERSION_LABEL: str(spec.version),
        # Pods that mount the volumes must not be drawn to the node of one that does not.
        **(upstream or MOUNTS),
    }
    labels = {**_labels(spec.name), **served.labels, **upstream}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": spec.full_name, "labels": labels, "annotations": served.content},
        "spec": {
            "replicas": spec.replicas,
            "selector": {"matchLabels": served.selector},
            "progressDeadlineSeconds": server_needs.progress_deadline_seconds(spec.ready_seconds),
            # If a version is served again with other limits, no pod ends before its successor is ready.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": within}, "spec": _pod(spec)},
        },
    }


def service(name: str, model: str, served: ServedVersion, on_trial_after: str | None = None) -> dict[str, Any]:
    """Return a Service for the pods of one version.

    Args:
        name: of the Service: the model's, with which users talk to it, or the version's own, to test it beside the traffic.
        model: whose version it is.
        served: the version.
        on_trial_after: during a trial, the Deployment to go back to, empty if there is none; None: no trial.
    """
    trial = {} if on_trial_after is None else {TRIAL: on_trial_after}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "labels": {**_labels(model), **served.labels},
            "annotations": {**served.content, **trial},
        },
        "spec": {
            "selector": served.selector,
            "ports": [{"name": "http", "port": 80, "targetPort": GATEWAY_PORT}],
        },
    }


def disruption_budget(spec: VersionSpec, uid: str) -> dict[str, Any]:
    """Return the budget that lets a drained node take only one of the version's pods at a time.

    A version with a single pod can still be drained: a budget that forbids this would hold up the upgrade of a node for ever.

    Args:
        spec: the version.
        uid: uid of its Deployment, which owns the budget.
    """
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec.full_name, "uid": uid}
    labels = {**_labels(spec.name), **spec.served.labels}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": spec.full_name, "labels": labels, "ownerReferences": [owner]},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": spec.served.selector}},
    }


def _labels(model: str) -> dict[str, str]:
    return {**object_names.owner_of_model(model), "app.kubernetes.io/component": "server"}


def transformers(spec: VersionSpec) -> dict[str, Any]:
    """Return the container of transformers' model server, which answers to the model's name only."""
    options = serve_model.chat_options(spec.chat)
    command = ["python3", *serve_model.arguments(spec.name, SERVER_PORT, spec.compute_type), *options]
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
    start = ["python", "-m", "steps.rollout.gateway", GATEWAY_FOLDER]
    socket, times = f"{GATEWAY_FOLDER}/{SOCKET}", (server_needs.LEAVE_SECONDS, spec.rules.answer_seconds)
    drain = ["python", "-m", "steps.rollout.drain", socket, *map(str, times)]
    given = [spec.rules.model_dump_json(), spec.upstream.model_dump_json()]
    return {
        **pod_spec.container("gateway", spec.image, [*start, *given], []),
        "env": _api_keys(spec.api_key_secret) if spec.api_key_secret else [],
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
        "resources": {
            "requests": {"cpu": "50m", "memory": "128Mi"},
            "limits": {"cpu": "4", "memory": str(gateway_memory_bytes(spec.rules))},
        },
    }


def _pod(spec: VersionSpec) -> dict[str, Any]:
    own = not spec.base_server
    return {
        "affinity": {
            **pod_spec.on_different_nodes(spec.served.selector),
            **(pod_spec.on_the_volumes_node() if spec.one_node and own else {}),
        },
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
    # A proxy that the pod's environment names is not asked.
    url = f"http://127.0.0.1:{SERVER_PORT}{HEALTH}"
    asks = f"import urllib.request as u; u.build_opener(u.ProxyHandler({{}})).open('{url}', timeout=8)"
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


def _api_keys(secret: str) -> list[dict[str, Any]]:
    def of(setting: str, key: str, *, optional: bool) -> dict[str, Any]:
        return {"name": setting, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": optional}}}

    return [
        of(cluster_settings.API_KEY_SETTING, "key", optional=False),
        of(cluster_settings.PREVIOUS_API_KEY_SETTING, "previous", optional=True),
    ]
