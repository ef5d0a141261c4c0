"""The Kubernetes objects that serve a model: a Deployment and a Service a version, and the Service whose name stays."""

from typing import Any

from pydantic import BaseModel

from steps.common import cluster
from steps.rollout.upstream import Upstream

MODEL_LABEL, VERSION_LABEL = "fineline.dev/model", "fineline.dev/version"
ADAPTER, BASE = "fineline.dev/adapter-sha256", "fineline.dev/base"
RUNS_CLAIM = "fineline-runs"
GATEWAY_PORT, SERVER_PORT = 8080, 8000
MODELS = "/models"
ONE_NODE = {
    "podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {
                "labelSelector": {"matchLabels": {"fineline.dev/mounts": "volumes"}},
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
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": serving.full_name, "labels": labels, "annotations": _annotations(serving)},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": _selector(serving.name, serving.version)},
            "progressDeadlineSeconds": serving.ready_seconds,
            "template": {"metadata": {"labels": labels}, "spec": _pod(serving)},
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
        "fineline.dev/mounts": "volumes",
        **_selector(model, version),
    }


def _annotations(serving: Serving) -> dict[str, str]:
    return {ADAPTER: serving.upstream.adapter_sha256, BASE: serving.upstream.base}


def _pod(serving: Serving) -> dict[str, Any]:
    address = ["--host", "127.0.0.1", "--port", str(SERVER_PORT)]
    server = ["transformers", "serve", serving.name, *address, "--dtype", serving.compute_type]
    gateway = ["python", "-m", "steps.rollout.gateway", serving.name, "0.0.0.0", str(GATEWAY_PORT)]
    health = {"httpGet": {"path": "/health", "port": GATEWAY_PORT}}
    tmp = {"name": "tmp", "mountPath": "/tmp"}
    # The folder is mounted under the model's name: that is the name to which the server answers.
    model = {
        "name": "runs",
        "mountPath": f"{MODELS}/{serving.name}",
        "subPath": serving.sub_path,
        "readOnly": True,
    }
    return {
        **({"affinity": ONE_NODE} if serving.one_node else {}),
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
            {
                **_container("server", serving.image, server, [model, tmp]),
                "workingDir": MODELS,
                "env": [{"name": "HF_HUB_OFFLINE", "value": "1"}, {"name": "TRANSFORMERS_VERBOSITY", "value": "error"}],
                "resources": {"requests": {"cpu": "250m", "memory": str(serving.memory_bytes)}},
            },
            {
                **_container("gateway", serving.image, [*gateway, serving.upstream.model_dump_json()], [tmp]),
                "env": [_api_key(serving.api_key_secret)] if serving.api_key_secret else [],
                "ports": [{"name": "http", "containerPort": GATEWAY_PORT}],
                "readinessProbe": {**health, "periodSeconds": 3, "timeoutSeconds": 3},
                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
            },
        ],
        "volumes": [
            {"name": "runs", "persistentVolumeClaim": {"claimName": RUNS_CLAIM, "readOnly": True}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


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
