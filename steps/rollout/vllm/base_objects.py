"""The Kubernetes objects of a base server: one vLLM, in as many replicas as are wanted, for all adapters of one base.

gateway of store v1 ─┐
gateway of store v2 ─┼─▶ base-a5dffc7d-… (vLLM, the base in 16 bits; adapters come by their names)
gateway of desk v7  ─┘
"""

from typing import Any

from pydantic import BaseModel

from steps.common.handover.resolved import ServingPlan
from steps.common.storage.files import digest_of
from steps.rollout.checks import server_needs
from steps.rollout.pods import pod_spec
from steps.rollout.pods.pod_spec import MOUNTS, RUNS_CLAIM, WEIGHTS_CLAIM
from steps.rollout.vllm import vllm_container
from steps.rollout.vllm.adapter_folder import ADAPTERS, base_path

SERVER_LABEL, BASE_LABEL = "fineline.dev/base-server", "fineline.dev/base-digest"
SERVED = "fineline.dev/served"  # annotation: how it serves, as JSON
COMPONENT = "base"
# By which many a Prometheus finds what to ask.
SCRAPED = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(vllm_container.PORT),
    "prometheus.io/path": "/metrics",
}


class BaseServer(BaseModel):
    """A base model to serve adapters of."""

    digest: str  # of the base model
    image: str  # vLLM's
    served: ServingPlan
    weight_bytes: int
    read_bytes_a_second: float  # of the volume that holds the weights
    answer_seconds: int  # the longest answer
    one_node: bool  # keep its pods beside the others that mount the volumes
    autoscaled: bool  # something else says how many replicas there are

    @property
    def name(self) -> str:
        """Name of its Deployment and Service; another one where it would have to start anew."""
        fixed = self.served.model_dump(
            exclude={"replicas", "gpu", "gpu_bytes", "needs_bytes", "cache_tokens", "request_tokens"}
        )
        return f"base-{self.digest[:8]}-{digest_of([self.image, self.answer_seconds, fixed])[:6]}"

    @property
    def ready_seconds(self) -> int:
        """Longest start of a pod."""
        return server_needs.ready_seconds(self.weight_bytes, self.read_bytes_a_second, vllm_container.BEGIN_SECONDS)

    @property
    def path(self) -> str:
        """Where its pods have the base model."""
        return base_path(self.digest)


def differs(there: BaseServer, wanted: BaseServer) -> str:
    """Return why a base server that is there cannot take an adapter as it is wanted; empty where it can."""
    if there.digest != wanted.digest:
        return "it has another base"
    has, need = there.served, wanted.served
    if there.image != wanted.image:
        return f"its image is {there.image}, and {wanted.image} is wanted"
    if has.rank < need.rank:
        return f"it takes adapters up to rank {has.rank}, and this one needs {need.rank}"
    if has.max_adapters < need.max_adapters:
        return f"it has room for {has.max_adapters} adapters, and {need.max_adapters} are wanted"
    if (has.gpus, has.instance_type) != (need.gpus, need.instance_type):
        return "it has other GPUs"
    if has.arguments != need.arguments:
        return "its arguments are others"
    return ""


def deployment(server: BaseServer) -> dict[str, Any]:
    """Return the Deployment of a base server."""
    labels = {**_labels(server), **MOUNTS}
    body: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": server.name,
            "labels": _labels(server),
            "annotations": {SERVED: server.model_dump_json()},
        },
        "spec": {
            "selector": {"matchLabels": {SERVER_LABEL: server.name}},
            "progressDeadlineSeconds": server.ready_seconds,
            # There may be no second GPU to put a new pod on before an old one ends; with replicas, the others answer on.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {"metadata": {"labels": labels, "annotations": SCRAPED}, "spec": _pod(server)},
        },
    }
    if not server.autoscaled:
        body["spec"]["replicas"] = server.served.replicas
    return body


def service(server: BaseServer) -> dict[str, Any]:
    """Return the Service by whose name gateways find the replicas, each with its own address: they spread the requests."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": server.name, "labels": _labels(server)},
        "spec": {
            "clusterIP": "None",
            "selector": {SERVER_LABEL: server.name},
            "ports": [{"name": "vllm", "port": vllm_container.PORT, "targetPort": vllm_container.PORT}],
        },
    }


def disruption_budget(server: BaseServer, uid: str) -> dict[str, Any] | None:
    """Return what keeps a drained node from taking more than one replica at a time; None with one replica alone.

    Args:
        server: the base server.
        uid: of its Deployment, with which the budget goes.
    """
    if server.served.replicas < 2 and not server.autoscaled:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": server.name, "labels": _labels(server), "ownerReferences": [owner(server, uid)]},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {SERVER_LABEL: server.name}}},
    }


def owner(server: BaseServer, uid: str) -> dict[str, Any]:
    """Return the reference by which an object goes when the server's Deployment does."""
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": server.name, "uid": uid}


def _labels(server: BaseServer) -> dict[str, str]:
    return {
        "app.kubernetes.io/part-of": "fineline",
        "app.kubernetes.io/component": COMPONENT,
        SERVER_LABEL: server.name,
        BASE_LABEL: server.digest[:16],
    }


def _pod(server: BaseServer) -> dict[str, Any]:
    mounts = [
        {
            "name": "weights",
            "mountPath": server.path,
            "subPath": f"models/{server.digest[:16]}",
            "readOnly": True,
        },
        {"name": "runs", "mountPath": ADAPTERS, "subPath": "adapters", "readOnly": True},
    ]
    start = vllm_container.command(server.served, server.path, server.name, "0.0.0.0", server.answer_seconds)
    container = vllm_container.container(server.served, server.image, start, mounts, server.weight_bytes)
    grace_seconds = server_needs.grace_seconds(server.answer_seconds, vllm_container.END_SECONDS)
    return {
        "affinity": _affinity(server),
        # Without this every start would walk through all weights to change their group.
        **pod_spec.pod(grace_seconds, fsGroupChangePolicy="OnRootMismatch"),
        **vllm_container.pod_additions(server.served),
        "containers": [{**container, **vllm_container.reached(server.ready_seconds)}],
        "volumes": [
            *map(pod_spec.claim, (WEIGHTS_CLAIM, RUNS_CLAIM)),
            {"name": "tmp", "emptyDir": {}},
            vllm_container.shared_memory(),
        ],
    }


def _affinity(server: BaseServer) -> dict[str, Any]:
    """Replicas go to different nodes where they can; with volumes of one node, all to that."""
    apart = {"labelSelector": {"matchLabels": {SERVER_LABEL: server.name}}, "topologyKey": "kubernetes.io/hostname"}
    found: dict[str, Any] = {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": apart}]
        }
    }
    if server.one_node:
        found |= pod_spec.on_the_volumes_node()
    return found
