"""The Kubernetes objects that serve a model: a Deployment and a Service a version, and the Service whose name stays."""

from typing import Any

from pydantic import BaseModel

from steps.common import cluster
from steps.rollout.base_objects import MOUNTS, RUNS_CLAIM
from steps.rollout.upstream import Upstream

MODEL_LABEL, VERSION_LABEL = "fineline.dev/model", "fineline.dev/version"
UPSTREAM_LABEL = "fineline.dev/upstream"  # the base server that a gateway passes requests to
ADAPTER, BASE = "fineline.dev/adapter-sha256", "fineline.dev/base"
GATEWAY_PORT, SERVER_PORT = 8080, 8000
MODELS = "/models"
TMP = {"name": "tmp", "mountPath": "/tmp"}
RUNS = {"name": "runs", "persistentVolumeClaim": {"claimName": RUNS_CLAIM, "readOnly": True}}
ONE_NODE = {
    "podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {
                "labelSelector": {"matchLabels": MOUNTS},
                "topologyKey": "kubernetes.io/hostname",
            }
        ]
    }
}


class Serving(BaseModel):
    """A version to serve."""

    name: str  # of the model
    image: str
    sub_path: str  # of the merged model on the runs volume
    memory_bytes: int  # that its pod asks for
    ready_seconds: int
    compute_type: str  # torch's name of what it computes in
    api_key_secret: str  # Secret that holds the API key under "key", where it is there
    one_node: bool  # keep the pod beside the others that mount the volumes
    upstream: Upstream
    base_server: str = ""  # the vLLM for many adapters that has this one; empty: a model server of its own, in its pod
    server: dict[str, Any] | None = None  # container of that model server; None: `transformers serve`
    additions: dict[str, Any] = {}  # that the pod's specification has for it
    volumes: list[dict[str, Any]] = []
    replicas: int = 1

    @property
    def version(self) -> int:
        """The registered version."""
        return self.upstream.version

    @property
    def full_name(self) -> str:
        """Name of this version's Deployment and Service."""
        return f"{self.name}-v{self.version}"


def deployment(serving: Serving) -> dict[str, Any]:
    """Return the version's Deployment: the model server, and the gateway in front of it."""
    labels = _labels(serving.name, serving.version)
    within = {**labels, **({UPSTREAM_LABEL: serving.base_server} if serving.base_server else MOUNTS)}
    if serving.base_server:
        labels = within
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": serving.full_name, "labels": labels, "annotations": _annotations(serving)},
        "spec": {
            "replicas": serving.replicas,
            "selector": {"matchLabels": _selector(serving.name, serving.version)},
            "progressDeadlineSeconds": serving.ready_seconds,
            "template": {"metadata": {"labels": within}, "spec": _pod(serving)},
        },
    }


def service(name: str, model: str, version: int, annotations: dict[str, str]) -> dict[str, Any]:
    """Return a Service of the model's pods of one version."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": _labels(model, version), "annotations": annotations},
        "spec": {
            "selector": _selector(model, version),
            "ports": [{"name": "http", "port": 80, "targetPort": GATEWAY_PORT}],
        },
    }


def version_service(serving: Serving) -> dict[str, Any]:
    """Return the Service at which a version is asked before, and beside, the traffic."""
    return service(serving.full_name, serving.name, serving.version, _annotations(serving))


def live_service(serving: Serving) -> dict[str, Any]:
    """Return the Service that users talk to, pointed at this version."""
    return service(serving.name, serving.name, serving.version, _annotations(serving))


def _selector(model: str, version: int) -> dict[str, str]:
    return {MODEL_LABEL: model, VERSION_LABEL: str(version)}


def _labels(model: str, version: int) -> dict[str, str]:
    return {
        "app.kubernetes.io/part-of": "fineline",
        "app.kubernetes.io/component": "server",
        **_selector(model, version),
    }


def _annotations(serving: Serving) -> dict[str, str]:
    return {ADAPTER: serving.upstream.adapter_sha256, BASE: serving.upstream.base}


def _pod(serving: Serving) -> dict[str, Any]:
    gateway = ["python", "-m", "steps.rollout.gateway", serving.name, "0.0.0.0", str(GATEWAY_PORT)]
    health = {"httpGet": {"path": "/health", "port": GATEWAY_PORT}}
    return {
        **({"affinity": ONE_NODE} if serving.one_node and not serving.base_server else {}),
        **serving.additions,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            *([] if serving.base_server else [serving.server or _transformers(serving)]),
            {
                **_container("gateway", serving.image, [*gateway, serving.upstream.model_dump_json()], [TMP]),
                "env": [_api_key(serving.api_key_secret)] if serving.api_key_secret else [],
                "ports": [{"name": "http", "containerPort": GATEWAY_PORT}],
                "readinessProbe": {**health, "periodSeconds": 3, "timeoutSeconds": 3},
                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
            },
        ],
        "volumes": [
            *([] if serving.base_server else [RUNS]),
            *(serving.volumes or [{"name": "tmp", "emptyDir": {}}]),
        ],
    }


def _transformers(serving: Serving) -> dict[str, Any]:
    address = ["--host", "127.0.0.1", "--port", str(SERVER_PORT)]
    command = ["transformers", "serve", serving.name, *address, "--dtype", serving.compute_type]
    return {
        **_container("server", serving.image, command, [model_mount(serving.name, serving.sub_path), TMP]),
        "workingDir": MODELS,
        "env": [{"name": "HF_HUB_OFFLINE", "value": "1"}, {"name": "TRANSFORMERS_VERBOSITY", "value": "error"}],
        "resources": {"requests": {"cpu": "250m", "memory": str(serving.memory_bytes)}},
    }


def model_mount(name: str, sub_path: str) -> dict[str, Any]:
    """Mount a merged model under the name of the model: that is the name to which transformers answers."""
    return {"name": "runs", "mountPath": f"{MODELS}/{name}", "subPath": sub_path, "readOnly": True}


def _api_key(secret: str) -> dict[str, Any]:
    return {
        "name": cluster.API_KEY_SETTING,
        "valueFrom": {"secretKeyRef": {"name": secret, "key": "key", "optional": True}},
    }


def _container(name: str, image: str, command: list[str], mounts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
