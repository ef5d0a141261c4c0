"""The Kubernetes objects of a base server: one vLLM, with one or more replicas, for all adapters of a base.

gateway of store v1 ─┐
gateway of store v2 ─┼─▶ base--a5dffc7d-… (vLLM, the base in 16 bits; adapters are loaded by name)
gateway of desk v7  ─┘
"""

from typing import Any

from steps.common.handover.resolved import ENABLE_TOOLS, TOOL_PARSER, ServingPlan
from steps.common.storage.record import Record
from steps.rollout.checks import server_needs
from steps.rollout.pods import object_names, pod_spec
from steps.rollout.pods.object_names import SERVER_LABEL
from steps.rollout.pods.pod_spec import MOUNTS, RUNS_CLAIM, WEIGHTS_CLAIM
from steps.rollout.vllm import vllm_container
from steps.rollout.vllm.adapter_folder import ADAPTERS, base_path

BASE_LABEL = "fineline.dev/base-digest"
SERVED = "fineline.dev/served"  # annotation: the BaseServer as JSON
COMPONENT = "base"
# The annotations by which a common setup of Prometheus finds its targets.
SCRAPED = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(vllm_container.PORT),
    "prometheus.io/path": "/metrics",
}


class BaseServer(Record):
    """A base model whose adapters are served together."""

    digest: str  # digest of the base model
    image: str  # vLLM's image
    served: ServingPlan
    weight_bytes: int
    read_bytes_a_second: float  # measured on the volume that holds the weights
    answer_seconds: int  # time limit of an answer
    one_node: bool  # schedule its pods on the node of the pods that mount the volumes
    autoscaled: bool  # an autoscaler sets the number of replicas
    found_as: str = ""  # name of its Deployment, if it has one: another release may have named it

    @property
    def name(self) -> str:
        """Name of its Deployment and Service; differs between servers that cannot take over each other's adapters."""
        if self.found_as:
            return self.found_as
        # By name: a field that a later release adds must not start a second server beside one that serves well.
        fixed = self.served.model_dump(
            include={"runtime", "form", "gpus", "instance_type", "longest", "rank", "max_adapters", "arguments"}
        )
        return object_names.of_base_server(self.digest, [self.image, self.answer_seconds, fixed])

    @property
    def ready_seconds(self) -> int:
        """Time limit of a pod's start."""
        return server_needs.ready_seconds(self.weight_bytes, self.read_bytes_a_second, vllm_container.BEGIN_SECONDS)

    @property
    def path(self) -> str:
        """Path of the base model in its pods."""
        return base_path(self.digest)


def differs(there: BaseServer, wanted: BaseServer) -> str:
    """Return why an existing base server cannot take the adapter; empty if it can."""
    if there.digest != wanted.digest:
        return "it has another base"
    has, need = there.served, wanted.served
    if there.image != wanted.image:
        return f"its image is {there.image}, not {wanted.image}"
    if has.rank < need.rank:
        return f"it takes adapters up to rank {has.rank}, and this one has rank {need.rank}"
    if has.max_adapters < need.max_adapters:
        return f"it has room for {has.max_adapters} adapters, not {need.max_adapters}"
    if (has.gpus, has.instance_type) != (need.gpus, need.instance_type):
        return "it has other GPUs"
    if _without_tools(has.arguments) != _without_tools(need.arguments):
        return "it has other arguments"
    return ""


def other_tools(there: BaseServer, wanted: BaseServer) -> str:
    """Return what an existing base server does otherwise with calls of tools, and how to change it; empty if nothing.

    That alone is no reason for a second server, which would need further GPUs: 0.1.0 started its servers without a parser.
    """
    has, need = (_tools(one.served.arguments) for one in (there, wanted))
    if has == need:
        return ""
    parser = [one.removeprefix(TOOL_PARSER) for one in has if one.startswith(TOOL_PARSER)]
    does = (
        f"reads calls of tools with the parser {parser[0]}" if parser else "leaves calls of tools in the answer's text"
    )
    wish = f"with {' '.join(need)}" if need else "without a parser"
    return f"{there.name} {does}; to restart it {wish}, change its command: kubectl edit deployment {there.name}"


def _without_tools(arguments: list[str]) -> list[str]:
    return [one for one in arguments if not _is_for_tools(one)]


def _tools(arguments: list[str]) -> list[str]:
    return [one for one in arguments if _is_for_tools(one)]


def _is_for_tools(argument: str) -> bool:
    return argument == ENABLE_TOOLS or argument.startswith(TOOL_PARSER)


def served(server: BaseServer) -> str:
    """Return the annotation that describes a server to later rollouts."""
    return server.model_dump_json(exclude={"found_as"})


def found_server(annotation: str, name: str) -> BaseServer:
    """Return the server that an annotation describes, under the name that its Deployment has.

    Raises:
        ValueError: it describes no server.
        NewerRecordError: a later release wrote it.
    """
    return BaseServer.read(annotation, name).model_copy(update={"found_as": name})


def deployment(server: BaseServer) -> dict[str, Any]:
    """Return the Deployment of a base server."""
    labels = {**_labels(server), **MOUNTS}
    body: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": server.name,
            "labels": _labels(server),
            "annotations": {SERVED: served(server)},
        },
        "spec": {
            "selector": {"matchLabels": {SERVER_LABEL: server.name}},
            "progressDeadlineSeconds": server.ready_seconds,
            # There may be no free GPU for a new pod before an old one ends; other replicas keep answering.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "template": {"metadata": {"labels": labels, "annotations": SCRAPED}, "spec": _pod(server)},
        },
    }
    if not server.autoscaled:
        body["spec"]["replicas"] = server.served.replicas
    return body


def service(server: BaseServer) -> dict[str, Any]:
    """Return the headless Service by which gateways find each replica's address, to balance requests between them."""
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


def disruption_budget(server: BaseServer, uid: str) -> dict[str, Any]:
    """Return the budget that lets a drained node take only one replica at a time.

    Args:
        server: the base server.
        uid: uid of its Deployment, which owns the budget.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": server.name, "labels": _labels(server), "ownerReferences": [owner(server, uid)]},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {SERVER_LABEL: server.name}}},
    }


def owner(server: BaseServer, uid: str) -> dict[str, Any]:
    """Return the owner reference to the server's Deployment, with which an object is deleted."""
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": server.name, "uid": uid}


def _labels(server: BaseServer) -> dict[str, str]:
    return {
        **object_names.owner_of_base_server(server.name),
        "app.kubernetes.io/component": COMPONENT,
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
        # Otherwise every start would change the group of every file of the weights.
        **pod_spec.pod(grace_seconds, fsGroupChangePolicy="OnRootMismatch"),
        **vllm_container.pod_additions(server.served),
        "containers": [{**container, **vllm_container.ports_and_probes(server.ready_seconds)}],
        "volumes": [
            *map(pod_spec.claim, (WEIGHTS_CLAIM, RUNS_CLAIM)),
            {"name": "tmp", "emptyDir": {}},
            vllm_container.shared_memory(),
        ],
    }


def _affinity(server: BaseServer) -> dict[str, Any]:
    """Return the affinity: replicas on different nodes if possible; if one node holds the volumes, all on that."""
    return {
        **pod_spec.on_different_nodes({SERVER_LABEL: server.name}),
        **(pod_spec.on_the_volumes_node() if server.one_node else {}),
    }
