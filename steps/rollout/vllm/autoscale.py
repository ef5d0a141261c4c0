"""Scales a base server by the number of waiting requests: a HorizontalPodAutoscaler or KEDA's ScaledObject."""

from typing import Any

from steps.common.runtime.errors import UserError
from steps.rollout.pods.object_names import owner_of_base_server
from steps.rollout.vllm.base_objects import BaseServer, owner

HPA, KEDA = "hpa", "keda"
METRIC = "vllm:num_requests_waiting"  # a gauge of vLLM's
# The name in Prometheus' adapter for Kubernetes, where metrics' names contain no colon.
METRIC_OF_ADAPTER = "vllm_num_requests_waiting"
WAITING = 4  # waiting requests per replica, above which one is added
STEADY_SECONDS = 600  # a replica takes minutes to start: do not remove it in a short lull


def autoscaler(kind: str, server: BaseServer, uid: str, most: int, prometheus: str) -> dict[str, Any]:
    """Return the object that scales a base server.

    Args:
        kind: "hpa" or "keda".
        server: the base server.
        uid: uid of its Deployment, which owns the object.
        most: largest number of replicas.
        prometheus: address of the Prometheus that KEDA queries.

    Raises:
        UserError: the kind is unknown, or KEDA has no Prometheus.
    """
    least = server.served.replicas
    metadata = {
        "name": server.name,
        "labels": owner_of_base_server(server.name),
        "ownerReferences": [owner(server, uid)],
    }
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": server.name}
    behaviour = {"scaleDown": {"stabilizationWindowSeconds": STEADY_SECONDS}}
    if kind == HPA:
        waiting = {
            "metric": {"name": METRIC_OF_ADAPTER},
            "target": {"type": "AverageValue", "averageValue": str(WAITING)},
        }
        return {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": metadata,
            "spec": {
                "scaleTargetRef": target,
                "minReplicas": least,
                "maxReplicas": max(least, most),
                "metrics": [{"type": "Pods", "pods": waiting}],
                "behavior": behaviour,
            },
        }
    if kind != KEDA:
        raise UserError(f"the setting FINELINE_AUTOSCALE is {kind!r}; it has to be {HPA} or {KEDA}")
    if not prometheus:
        raise UserError(
            "the setting FINELINE_PROMETHEUS is empty; KEDA needs the address of a Prometheus with vLLM's metrics"
        )
    # vLLM's own label, which holds the name of the base.
    query = f'sum({METRIC}{{model_name="{server.name}"}})'
    trigger = {"serverAddress": prometheus, "query": query, "threshold": str(WAITING)}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": target,
            "minReplicaCount": least,
            "maxReplicaCount": max(least, most),
            "cooldownPeriod": STEADY_SECONDS,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behaviour}},
            "triggers": [{"type": "prometheus", "metricType": "AverageValue", "metadata": trigger}],
        },
    }
